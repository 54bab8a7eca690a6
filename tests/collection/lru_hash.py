"""Twice as many places as the map holds: the places seek to last are in it, and it says that it may have evicted."""

SHOWS = "map: lru_hash"
NEEDS = ("tracepoint",)
OPTIONS = {}
WORK = """python3 -c '
import os
fd = os.open("/dev/null", os.O_RDONLY)
for place in [*range(2048), *range(2048)]: os.lseek(fd, 0xe0040000 + place, os.SEEK_SET)
for turn in range(100): os.lseek(fd, 0xe0040000 + 5000, os.SEEK_SET)'"""


def prove(session, sh):
    sh(WORK)
    found = session.maps["seeks"].df()
    assert len(found) <= 1024
    assert found.loc[5000, "value"] == 100
    assert session.maps["seeks"].may_have_evicted(len(found))
    return "100 seeks kept, others evicted"
