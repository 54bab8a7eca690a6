"""The kernel's links: this iterator's own among them, once."""

from __future__ import annotations

SHOWS = "program: iter/bpf_link"
NEEDS = ("iter",)
OPTIONS = {}


def prove(session, sh):
    frame = session.iter["links"].df()
    mine = frame[frame["program"] == session.program_rows[0]["id"]]
    assert mine["type"].tolist() == [4]  # BPF_LINK_TYPE_ITER
    assert frame["id"].is_unique
    return "its 1 link"
