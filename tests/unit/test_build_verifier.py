"""The verifier's words, on the cell's own line.

data/rejected.bpf.o is data/rejected.bpf.c as a cell, without its DWARF (llvm-strip -g). Its program `bad` reads through
a pointer that may be NULL on line 18, `calls` does in a function that libbpf appends to it, on line 5. The logs are of
Linux 6.18 and, as older kernels write them, without the line numbers.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpf_magic.build import Built, Source, verifier_error
from ebpf_magic.errors import VerifierError

DATA = Path(__file__).parent / "data"
BUILT = Built(
    (DATA / "rejected.bpf.o").read_bytes(), Source.parse((DATA / "rejected.bpf.c").read_text()), False, "plain", 0, ""
)
BAD = """arg#0 reference type('UNKNOWN ') size cannot be determined: -22
0: R1=ctx() R10=fp0
; u32 pid = PID(); @ cell:16
0: (85) call bpf_get_current_pid_tgid#14      ; R0=scalar()
1: (77) r0 >>= 32                     ; R0=scalar(smin=0,smax=umax=0xffffffff,var_off=(0x0; 0xffffffff))
2: (63) *(u32 *)(r10 -4) = r0         ; R0=scalar(smin=0,smax=umax=0xffffffff,var_off=(0x0; 0xffffffff)) R10=fp0 fp-8=mmmm????
3: (bf) r2 = r10                      ; R2=fp0 R10=fp0
;  @ cell:0
4: (07) r2 += -4                      ; R2=fp-4
; u64 *count = bpf_map_lookup_elem(&counts, &pid); @ cell:17
5: (18) r1 = 0xffff888105675400       ; R1=map_ptr(map=counts,ks=4,vs=8)
7: (85) call bpf_map_lookup_elem#1    ; R0=map_value_or_null(id=1,map=counts,ks=4,vs=8)
; *count += 1; @ cell:18
8: (79) r1 = *(u64 *)(r0 +0)
R0 invalid mem access 'map_value_or_null'
processed 8 insns (limit 1000000) max_states_per_insn 0 total_states 1 peak_states 1 mark_read 0
"""  # noqa: E501
CALLS = """0: R1=ctx() R10=fp0
; return helper(&pid); @ cell:25
5: (85) call pc+1
caller:
 R10=fp0 fp-8=mmmm????
callee:
 frame1: R1=fp[0]-4 R10=fp0
; u64 *value = bpf_map_lookup_elem(&counts, key); @ cell:4
8: (18) r1 = 0xffff888104420400       ; frame1: R1=map_ptr(map=counts,ks=4,vs=8)
10: (85) call bpf_map_lookup_elem#1   ; frame1: R0=map_value_or_null(id=1,map=counts,ks=4,vs=8)
; return *value; @ cell:5
11: (79) r0 = *(u64 *)(r0 +0)
R0 invalid mem access 'map_value_or_null'
processed 10 insns (limit 1000000) max_states_per_insn 0 total_states 1 peak_states 1 mark_read 0
"""


def older(log: str) -> str:
    """Write a log as kernels before 6.8 do, that name no file and line."""
    return re.sub(r" @ cell:\d+$", "", log, flags=re.MULTILINE)


def rejected(program: str | None, log: str, built: Built = BUILT) -> VerifierError:
    given = VerifierError("load program", "Permission denied", "agent's hint", errno=13, program=program, log=log)
    return verifier_error(built, given)


@pytest.mark.parametrize("form", [str, older], ids=["6.18", "older"])
@pytest.mark.parametrize(("program", "log", "line"), [("bad", BAD, 18), ("calls", CALLS, 5)])
def test_line_of_the_cell(program: str, log: str, line: int, form: type[str]) -> None:
    error = rejected(program, form(log))
    assert error.line == line
    assert error.why == "the verifier says: R0 invalid mem access 'map_value_or_null'"
    assert error.hint == "The pointer may be NULL: test it first, as in `if (!value) return 0;`."
    assert error.log == form(log)
    assert (error.errno, error.program) == (13, program)
    assert BUILT.source.line(line) in error.excerpt


def test_by_instruction_alone() -> None:
    log = "\n".join(line for line in BAD.splitlines() if not line.startswith(";"))
    error = rejected("bad", log)
    assert (error.line, error.column) == (18, 9)


def test_by_instruction_alone_in_a_function() -> None:
    log = "\n".join(line for line in CALLS.splitlines() if not line.startswith(";"))
    error = rejected("calls", log)
    assert (error.line, error.column) == (5, 9)


def test_text_of_the_error() -> None:
    text = str(rejected("bad", older(BAD)))
    assert text.startswith(
        "load program, line 18: the verifier says: R0 invalid mem access 'map_value_or_null'\n   18 | \t*count"
    )
    assert "8: (79) r1 = *(u64 *)(r0 +0)\n" in text
    assert "processed 8 insns" not in text


@pytest.mark.parametrize(
    ("cause", "line"),
    [
        ("infinite loop detected at insn 2\ncur state: R0=scalar()\nold state: R0=scalar()", 16),
        ("back-edge from insn 7 to 3", 17),
        ("unreachable insn 9", 18),
    ],
)
def test_an_instruction_that_the_cause_names(cause: str, line: int) -> None:
    error = rejected("bad", f"0: (b7) r0 = 0\n{cause}\nprocessed 1 insns (limit 1000000)\n")
    assert error.line == line
    assert cause.splitlines()[0] in error.why


def test_relocation_that_this_kernel_does_not_have() -> None:
    cause = "failed to resolve CO-RE relocation <byte_off> [5] struct task_struct___x.nosuch (0:0 @ offset 0)"
    error = rejected(
        "bad", f"0: (85) call x#1\n1: <invalid CO-RE relocation>\n{cause}\nprocessed 2 insns (limit 1000000)\n"
    )
    assert error.line == 16
    assert "no such type or field" in error.hint


def test_the_frame_libbpf_puts_around_a_log() -> None:
    begin = "libbpf: prog 'bad': BPF program load failed: Permission denied\nlibbpf: prog 'bad': "
    log = f"{begin}-- BEGIN PROG LOAD LOG --\n{BAD}-- END PROG LOAD LOG --\nlibbpf: prog 'bad': failed to load: -13\n"
    error = rejected("bad", log)
    assert error.line == 18
    assert "failed to load" not in error.why


@pytest.mark.parametrize("log", ["", "\n\n", "processed 0 insns (limit 1000000)\n"])
def test_a_log_that_says_nothing_leaves_the_error_as_it_was(log: str) -> None:
    error = rejected("bad", log)
    assert (error.line, error.why, error.hint) == (None, "Permission denied", "agent's hint")


def test_a_damaged_object_still_gives_the_cause() -> None:
    error = rejected("bad", BAD, Built(b"\x7fELF", BUILT.source, False, "plain", 0, ""))
    assert error.line is None
    assert "invalid mem access" in error.why


PIECES = [
    "0: (85) call",
    "99999999999999999999: (00) x",
    "; *count += 1;",
    "; @ cell:18",
    "; x @ cell:999",
    "\n",
    "insn 7",
    " ",
    "R0=x",
]


@given(st.sampled_from([None, "bad", "calls", "nosuch"]), st.text() | st.lists(st.sampled_from(PIECES)).map("\n".join))
def test_no_log_is_too_strange(program: str | None, log: str) -> None:
    error = rejected(program, log)
    assert isinstance(str(error), str)
    assert error.log == log


@given(st.integers(0, len(BAD)))
def test_a_log_cut_anywhere(length: int) -> None:
    assert rejected("bad", BAD[:length]).log == BAD[:length]
