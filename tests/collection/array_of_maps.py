"""Seeks to even places in one inner map, to odd ones in the other."""

SHOWS = "map: array_of_maps"
NEEDS = ("tracepoint",)
OPTIONS = {}
WORK = """python3 -c '
import os
fd = os.open("/dev/null", os.O_RDONLY)
for turn in range(400): os.lseek(fd, 0xe00a0000 + turn % 4, os.SEEK_SET)'"""


def prove(session, sh):
    sh(WORK)
    outer = session.maps["outer"]
    ids = [session.maps[name].info["id"] for name in ("even", "odd")]
    assert outer.df()["map_id"].to_dict() == {0: ids[0], 2: ids[1]}
    with outer.inner(0) as even, outer.inner(2) as odd:
        assert even.df()["value"].tolist() == [100, 0, 100, 0]
        assert odd.df()["value"].tolist() == [0, 100, 0, 100]
    return "2 inner maps, 4 x 100 seeks"
