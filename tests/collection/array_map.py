"""Seeks to four places, counted by index; nobody else seeks to where this one does."""

SHOWS = "map: array"
NEEDS = ("tracepoint",)
OPTIONS = {}
WORK = """python3 -c '
import os
fd = os.open("/dev/null", os.O_RDONLY)
for turn in range(400): os.lseek(fd, 0xe0010000 + turn % 4, os.SEEK_SET)'"""


def prove(session, sh):
    sh(WORK)
    assert session.maps["seeks"].df()["value"].tolist() == [100, 100, 100, 100]
    return "4 x 100 seeks"
