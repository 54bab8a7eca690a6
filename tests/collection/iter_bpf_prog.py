"""The kernel's programs: among them the two of this very cell, by their ids."""

from __future__ import annotations

SHOWS = "program: iter/bpf_prog"
NEEDS = ("iter",)
OPTIONS = {}


def prove(session, sh):
    frame = session.iter["loaded"].df().set_index("id")
    for program, number in zip(session.program_rows, (26, 31), strict=True):  # tracing, syscall
        assert frame.loc[program["id"]].tolist() == [number, program["name"]]
    return "its 2 programs"
