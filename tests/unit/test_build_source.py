"""A cell's text: its dialect, and that nothing in it can hurt."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpf_magic.build.source import MAX_BYTES, Source
from ebpf_magic.errors import UsageError

C_PIECES = st.lists(
    st.sampled_from(['"', "'", "\\", "/*", "*/", "//", "\n", "#include <a.h>", "#define A 1", "x", " ", "\\\n", "é"])
)


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("int x;", False),
        ("#include <linux/bpf.h>\nint x;", True),
        ('int x;\n  #  include "mine.h"', True),
        ('#include"mine.h"', True),
        ("// #include <linux/bpf.h>\nint x;", False),
        ("/*\n#include <linux/bpf.h>\n*/ int x;", False),
        ('char *s = "\\\n#include <a.h>";', False),
        ('char *s = "\\"";\n#include <a.h>\nchar c = \'"\';', True),
        ("// a comment that goes on \\\n#include <a.h>\nint x;", False),
        ("int includes; // include", False),
    ],
)
def test_dialect(text: str, own: bool) -> None:
    assert Source.parse(text).own_includes is own


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ('char L[] SEC("license") = "GPL";', True),
        ('char L[] __attribute__((section ( "license" ), used)) = "GPL";', True),
        ('// SEC("license")\nint x;', False),
        ("int license;", False),
    ],
)
def test_licence(text: str, has: bool) -> None:
    assert Source.parse(text).has_licence is has


@pytest.mark.parametrize("text", ["", "  \n\t\n", "// only\n/* comments */", "/* not closed", "\ufeff"])
def test_a_cell_without_code_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no code"):
        Source.parse(text)


def test_what_is_no_text_is_refused_with_its_line() -> None:
    with pytest.raises(UsageError, match="NUL byte") as nul:
        Source.parse("int x;\nint \0y;")
    assert nul.value.line == 2
    with pytest.raises(UsageError, match="surrogate") as half:
        Source.parse("\n\nint \ud800;")
    assert half.value.line == 3
    with pytest.raises(UsageError, match="limit"):
        Source.parse("x" * (MAX_BYTES + 1))


def test_line_ends_and_byte_order_mark() -> None:
    source = Source.parse("\ufeffint x;\r\nint y;\rint z;")
    assert source.lines == ["int x;", "int y;", "int z;"]
    assert [source.line(n) for n in (0, 1, 3, 4)] == ["", "int x;", "int z;", ""]
    assert source.last_line == 3


def test_leading_definitions_end_at_the_first_code() -> None:
    source = Source.parse("// first\n#define A 1\n# undef B\n#define C(x) \\\n  x\n\nint x;\n#define D\n")
    assert source.leading_definitions() == {"A": "#define A 1\n", "B": "# undef B\n", "C": "#define C(x) \\\n  x\n"}


@given(st.one_of(st.text(), C_PIECES.map("".join)))
def test_any_text_is_a_source_or_a_usage_error(text: str) -> None:
    try:
        source = Source.parse(text)
    except UsageError:
        return
    assert source.code.count("\n") == source.text.count("\n")
    assert len(source.code) == len(source.text)
    assert isinstance(source.own_includes, bool)
    source.leading_definitions()


@pytest.mark.parametrize("piece", ['\\"', '"', "/*", "//", "'\\", "#define A\n", "a\\\n"])
def test_a_megabyte_of_one_thing_takes_no_time(piece: str) -> None:
    began = time.process_time()
    source = Source.parse("int x;" + piece * ((1 << 20) // len(piece)))
    assert isinstance(source.own_includes, bool)
    assert isinstance(source.has_licence, bool)
    source.leading_definitions()
    assert time.process_time() - began < 20  # what is quadratic takes hours


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('SEC("usdt/python3:python:gc__start") int f;', True),
        ('SEC( "usdt" ) int f;', True),
        ('SEC("usdt.s/a:b:c") int f;', True),
        ('__attribute__((section("usdt"))) int f;', True),
        ('// SEC("usdt/a:b:c")\nSEC("uprobe") int f;', False),
        ('SEC("usdtx") int f; char usdt[] = "usdt";', False),
    ],
)
def test_a_usdt_program_is_seen(text: str, expected: bool) -> None:
    assert Source.parse(text).has_usdt is expected
