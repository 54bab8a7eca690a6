"""Seeks to even places in one inner map, to odd ones in the other."""

SHOWS = "map: hash_of_maps"
NEEDS = ("tracepoint",)
OPTIONS = {}
WORK = """python3 -c '
import os
fd = os.open("/dev/null", os.O_RDONLY)
for turn in range(400): os.lseek(fd, 0xe00b0000 + turn % 4, os.SEEK_SET)'"""


def prove(session, sh):
    sh(WORK)
    outer = session.maps["outer"]
    ids = [session.maps[name].info["id"] for name in ("even", "odd")]
    assert outer.df()["map_id"].to_dict() == {0: ids[0], 2: ids[1]}
    with outer.inner(0) as even, outer.inner(2) as odd:
        assert even.df()["value"].to_dict() == {0: 100, 2: 100}
        assert odd.df()["value"].to_dict() == {1: 100, 3: 100}
    return "2 inner maps, 4 x 100 seeks"
