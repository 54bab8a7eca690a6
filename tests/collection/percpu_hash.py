"""Seeks to eight places, by a key of two fields."""

SHOWS = "map: percpu_hash"
NEEDS = ("tracepoint",)
OPTIONS = {}
WORK = """python3 -c '
import os
fd = os.open("/dev/null", os.O_RDONLY)
for turn in range(800): os.lseek(fd, 0xe0030000 + turn % 8, os.SEEK_SET)'"""


def prove(session, sh):
    sh(WORK)
    found = session.maps["seeks"].df()["value"].to_dict()
    assert found == {(number, "place"): 100 for number in range(8)}
    return "8 x 100 seeks"
