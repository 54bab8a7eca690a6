"""The entries of a map of the session, filtered in the kernel: 500 of 1,000 squares."""

from __future__ import annotations

SHOWS = "program: iter/bpf_map_elem"
NEEDS = ("iter", "syscall")
OPTIONS = {"attach": {"dump": "squares"}}


def prove(session, sh):
    session.run("fill")
    frame = session.iter["dump"].df().sort_values("key")
    assert frame["key"].tolist() == list(range(0, 1000, 2))
    assert frame["value"].tolist() == [number * number for number in range(0, 1000, 2)]
    return "500 of 1,000 entries"
