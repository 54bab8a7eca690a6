"""clang's messages, as clang 14 and 22 wrote them, on the cell's own lines."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpf_magic.build.clang import Result
from ebpf_magic.build.diagnostics import AFTER_CELL, compile_error, excerpt, parse, warnings
from ebpf_magic.build.macros import macros, macros_help
from ebpf_magic.build.source import Source
from ebpf_magic.errors import CompileError

HEADER = "/usr/lib/python3/ebpf_magic/build/include/ebpf_magic.h"
CELL = """HASH(counts, u32, u64);
SEC("raw_tp/sys_enter")
int count(void *ctx)
{
	COUNT(counts, pidd);
	return 0;
}
"""


def error_of(log: str, cell: str = CELL, code: int = 1) -> CompileError:
    return compile_error(Source.parse(cell), Result(code, log), Path("/nowhere"))


def test_line_column_caret_and_log() -> None:
    log = "cell:5:16: error: use of undeclared identifier 'pidd'\n1 error generated.\n"
    error = error_of(log)
    assert (error.line, error.column, error.log) == (5, 16, log)
    assert str(error) == (
        "compile the cell, line 5: use of undeclared identifier 'pidd'\n"
        "    5 | \tCOUNT(counts, pidd);\n"
        "      | \t              ^"
    )


def test_an_error_inside_a_macro_is_where_the_cell_uses_it() -> None:
    log = (
        "cell:5:2: error: static_assert failed due to requirement 'sizeof (*(counts).value) == 4 || "
        'sizeof (*(counts).value) == 8\' "only a map whose value is a number of 32 or 64 bits can be counted in"\n'
        f"{HEADER}:67:3: note: expanded from macro 'COUNT'\n"
        f"{HEADER}:159:3: note: expanded from macro 'EM_ADD'\n"
    )
    error = error_of(log)
    assert (error.line, error.why) == (5, "only a map whose value is a number of 32 or 64 bits can be counted in")
    newer = (
        log.replace("static_assert failed", "static assertion failed")
        .replace("== 8' \"", "== 8': ")
        .replace('in"', "in")
    )
    assert error_of(newer).why == error.why


def test_a_map_that_is_unknown_is_one_error_not_nine() -> None:
    one = "cell:5:8: error: use of undeclared identifier 'countz'\n"
    log = (
        one * 8
        + "cell:5:2: error: use of undeclared identifier 'countz__missed'\n"
        + f"{HEADER}:67:3: note: expanded from macro 'COUNT'\n"
    )
    error = error_of(log, CELL.replace("COUNT(counts", "COUNT(countz"))
    assert error.why == "use of undeclared identifier 'countz'"
    assert "counts" in error.near
    assert "more error" not in str(error)


def test_a_map_of_the_users_own_has_no_counters() -> None:
    log = "cell:5:2: error: use of undeclared identifier 'own__missed'; did you mean 'counts__missed'?\n"
    error = error_of(log)
    assert "map own was not made by HASH" in error.why
    assert "HASH(own, key type, value type)" in error.hint


@pytest.mark.parametrize(
    "text",
    [
        "implicit declaration of function 'CONT' is invalid in C99 [-Werror,-Wimplicit-function-declaration]",
        "call to undeclared function 'CONT'; ISO C99 and later do not support implicit function declarations "
        "[-Wimplicit-function-declaration]",
    ],
)
def test_an_unknown_macro_names_near_ones(text: str) -> None:
    error = error_of(f"cell:5:2: error: {text}\n")
    assert error.why == "there is no function or macro CONT"
    assert "COUNT" in error.near


def test_an_unknown_macro_at_the_top_level_names_near_ones() -> None:
    error = error_of("cell:1:13: error: unexpected type name 'u32': expected identifier\n", "HSH(counts, u32, u64);")
    assert error.why == "there is no macro HSH"
    assert error.near == ["HASH"]


def test_too_few_arguments_say_how_it_is_written() -> None:
    log = (
        "cell:5:2: error: missing field 'number' initializer [-Werror,-Wmissing-field-initializers]\n"
        f"{HEADER}:72:3: note: expanded from macro 'ADD'\n{HEADER}:153:29: note: expanded from macro 'EM_PAIR'\n"
    )
    error = error_of(log)
    assert (error.why, error.hint) == ("ADD has too few arguments", "It is ADD(map, key, n).")


def test_short_names_in_a_cell_with_its_own_includes() -> None:
    error = error_of("cell:2:6: error: unknown type name 'u32'\n", "#include <linux/bpf.h>\nHASH(counts, u32, u64);")
    assert '#include "ebpf_magic.h"' in error.hint


def test_an_error_in_an_included_file_is_on_the_line_that_includes_it() -> None:
    log = "In file included from cell:1:\nIn file included from ./a.h:2:\n./b.h:9:3: error: unknown type name 'foo'\n"
    error = error_of(log, '#include "a.h"\nint x;')
    assert (error.line, error.column) == (1, None)
    assert "./b.h:9" in str(error)


@pytest.mark.parametrize("place", [f"{AFTER_CELL}:3:1", "cell:9:1"])
def test_what_was_left_open_is_at_the_cells_end(place: str) -> None:
    error = error_of(
        f"{place}: error: expected '}}'\ncell:4:1: note: to match this '{{'\n", CELL.replace("\n}\n", "\n")
    )
    assert (error.line, error.column) == (6, None)
    assert "left open" in error.hint


def test_a_message_of_the_back_end_without_a_place() -> None:
    error = error_of(
        "error: <unknown>:0:0: in function count i32 (i8*): A call to built-in function 'memcpy' is not supported.\n"
    )
    assert error.line is None
    assert "memcpy" in error.why


@pytest.mark.parametrize(
    ("code", "log", "why"),
    [
        (-11, "PLEASE submit a bug report\nStack dump:\n", "the compiler itself crashed"),
        (1, "LLVM ERROR: out of memory\n", "the compiler ran out of the memory it is allowed"),
        (0, "", "the compiler made no object: one of its flags asks for something else"),
        (1, "", "the compiler failed (exit code 1) without naming a line"),
    ],
)
def test_no_message_at_all(code: int, log: str, why: str) -> None:
    assert error_of(log, code=code).why == why


def test_only_the_first_errors_are_shown_and_all_are_in_the_log() -> None:
    log = (
        "".join(f"cell:{n}:1: error: error number {n}\n" for n in range(1, 7))
        + "fatal error: too many errors emitted\n"
    )
    error = error_of(log)
    assert str(error).splitlines()[-3:] == ["line 2: error number 2", "line 3: error number 3", "and 3 more errors"]
    assert error.log == log


def test_warnings_have_lines_and_no_repetitions() -> None:
    log = "cell:5:7: warning: unused variable 'x' [-Wunused-variable]\n" * 2 + "cell:6:1: error: no\n"
    assert warnings(Source.parse(CELL), log) == "line 5: unused variable 'x'"


def test_a_caret_under_wide_text_tabs_and_in_long_lines() -> None:
    assert excerpt(Source.parse('\tchar *é = "ü";'), 1, 12).splitlines()[1] == "      | \t         ^"
    long = excerpt(Source.parse("x" * 500 + "Y" + "x" * 500), 1, 501).splitlines()
    assert len(long[0]) < 200
    assert long[0][long[1].index("^")] == "Y"
    assert excerpt(Source.parse("int x;"), 7) == ""


@given(
    st.text()
    | st.lists(st.sampled_from(["cell:", "5:", "1:", " error: ", " note: ", "x", "\n", "In file included from "])).map(
        "".join
    )
)
def test_no_log_is_too_strange(log: str) -> None:
    source = Source.parse(CELL)
    assert isinstance(str(compile_error(source, Result(1, log), Path("/nowhere"))), str)
    assert all(message.line is None or message.line >= 0 for message in parse(source, log))


def test_every_macro_of_the_issue_is_described() -> None:
    wanted = (
        "AS KEY_AS VALUE_AS HASH LRU_HASH ARRAY PERCPU_HASH PERCPU_ARRAY COUNT ADD HIST HIST_BY OBSERVE OBSERVE_BY "
        "START ELAPSED_NS ROW PID TID COMM NOW_NS CPU"
    ).split()
    assert sorted(macros()) == sorted(wanted)
    lines = macros_help().splitlines()
    assert len(lines) == len(macros())
    assert any(line.startswith("COUNT(map, key) ") for line in lines)


def test_a_name_that_the_kernels_types_have() -> None:
    log = "cell:1:6: error: redefinition of 'all' as different kind of symbol\n"
    error = error_of(log + "/x/vmlinux.h:9:2: note: previous definition is here\n", "HASH(all, u32, u64);")
    assert "the name all is taken" in error.why
    assert "take another name" in error.hint
