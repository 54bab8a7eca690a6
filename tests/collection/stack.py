"""Places in the order in which they are sought: the last is on top, and all come out the other way round."""

SHOWS = "map: stack"
NEEDS = ("tracepoint",)
OPTIONS = {}
WORK = """python3 -c '
import os
fd = os.open("/dev/null", os.O_RDONLY)
for place in range(400): os.lseek(fd, 0xe0080000 + place, os.SEEK_SET)'"""


def prove(session, sh):
    sh(WORK)
    assert session.maps["seeks"].df()["value"].tolist() == [399]
    assert session.maps["seeks"].drain()["value"].tolist() == list(range(399, -1, -1))
    assert session.maps["seeks"].df().empty
    return "400 places, last first"
