"""The kernel's maps: among them the two of this very cell, by their ids."""

from __future__ import annotations

SHOWS = "program: iter/bpf_map"
NEEDS = ("iter",)
OPTIONS = {}


def prove(session, sh):
    frame = session.iter["held"].df().set_index("id")
    for name, entries in (("one_of_mine", 100), ("two_of_mine", 7)):
        row = frame.loc[session.maps[name].handle.info.id]
        assert row.tolist() == [entries, name]
    return "its 2 maps"
