"""Places in the order in which they are sought: the first is at the head, and all come out in that order."""

SHOWS = "map: queue"
NEEDS = ("tracepoint",)
OPTIONS = {}
WORK = """python3 -c '
import os
fd = os.open("/dev/null", os.O_RDONLY)
for place in range(400): os.lseek(fd, 0xe0070000 + place, os.SEEK_SET)'"""


def prove(session, sh):
    sh(WORK)
    assert session.maps["seeks"].df()["value"].tolist() == [0]
    assert session.maps["seeks"].drain()["value"].tolist() == list(range(400))
    assert session.maps["seeks"].df().empty
    return "400 places in order"
