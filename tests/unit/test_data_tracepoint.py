"""A tracepoint's record as C: real descriptions of tracefs, and where each member must lie."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpf_magic.data import tracepoint

COMMON = """	field:unsigned short common_type;	offset:0;	size:2;	signed:0;
	field:unsigned char common_flags;	offset:2;	size:1;	signed:0;
	field:unsigned char common_preempt_count;	offset:3;	size:1;	signed:0;
	field:int common_pid;	offset:4;	size:4;	signed:1;

"""
OPENAT = f"""name: sys_enter_openat
ID: 654
format:
{COMMON}	field:int __syscall_nr;	offset:8;	size:4;	signed:1;
	field:int dfd;	offset:16;	size:8;	signed:0;
	field:const char * filename;	offset:24;	size:8;	signed:0;
	field:umode_t mode;	offset:40;	size:8;	signed:0;

print fmt: "dfd: 0x%08lx", ((unsigned long)(REC->dfd))
"""
EXEC = f"""name: sched_process_exec
ID: 316
format:
{COMMON}	field:__data_loc char[] filename;	offset:8;	size:4;	signed:0;
	field:pid_t pid;	offset:12;	size:4;	signed:1;
	field:char comm[16];	offset:16;	size:16;	signed:0;
	field:u8 mac[6];	offset:32;	size:6;	signed:0;
	field:unsigned long args[6];	offset:40;	size:48;	signed:0;
	field:struct thing thing;	offset:88;	size:3;	signed:0;
	field:u32 odd;	offset:93;	size:4;	signed:0;
"""


def test_fields() -> None:
    found = {field.name: field for field in tracepoint.fields(EXEC)}
    assert (found["pid"].type, found["pid"].offset, found["pid"].signed) == ("pid_t", 12, True)
    assert (found["filename"].dynamic, found["filename"].type) == (True, "char")
    assert (found["comm"].length, found["args"].length, found["mac"].length) == (16, 6, 6)
    assert found["thing"].type == "struct thing"


def test_the_struct() -> None:
    text = tracepoint.struct("exec", tracepoint.fields(EXEC))
    for line in (
        "struct exec {",
        "\tu32 filename; /* char[]: offset in the low 16 bits, length in the high */",
        "\ts32 pid; /* pid_t */",
        "\tchar comm[16];",
        "\tu8 mac[6];",
        "\tu64 args[6];",
        "\tchar thing[3]; /* struct thing */",
        "\tchar _91[2];",
        "\tchar odd[4]; /* u32 */",
    ):
        assert line in text.splitlines()


def test_a_gap_is_filled_only_where_c_would_not() -> None:
    lines = tracepoint.struct("open", tracepoint.fields(OPENAT)).splitlines()
    at = lines.index("\tu64 dfd; /* int */")
    assert lines[at - 1] == "\ts32 __syscall_nr; /* int */"  # the 4 bytes between them C leaves by itself
    assert "\tchar _32[8];" in lines


def test_numbers_and_arguments() -> None:
    assert [field.name for field in tracepoint.numbers(tracepoint.fields(EXEC))] == ["pid"]
    record = tracepoint.fields(OPENAT)
    assert [field.name for field in tracepoint.numbers(record)] == ["dfd", "mode"]
    assert tracepoint.arguments(record) == ["int dfd", "const char *filename", "umode_t mode"]


@pytest.mark.parametrize(
    "text", ["", "field:", "field:int a;\toffset:0;\tsize:0;\tsigned:1;", "field:;offset:1;size:1;"]
)
def test_no_fields(text: str) -> None:
    assert tracepoint.fields(text) == []


@given(st.text(alphabet="field: int_a[]*;`<>\n\t0123offsetsizesigned", max_size=200))
def test_a_stranger_s_text_becomes_c_or_nothing(noise: str) -> None:
    hostile = f"field:int x`<b>{noise};\toffset:8;\tsize:4;\tsigned:1;\n" + EXEC + noise
    text = tracepoint.struct("made", tracepoint.fields(hostile))
    assert "`" not in text
    assert "<" not in text
