"""Events that nobody takes: each is refused with ENOENT, and the map is listed with the reason why it has no table."""

from ebpf_magic.errors import UnsupportedError

SHOWS = "map: perf_event_array"
NEEDS = ("tracepoint",)
OPTIONS = {}
WORK = """python3 -c '
import os
fd = os.open("/dev/null", os.O_RDONLY)
for turn in range(100): os.lseek(fd, 0xe00f0000, os.SEEK_SET)'"""


def prove(session, sh):
    sh(WORK)
    assert session.maps["results"].df()["value"].to_dict() == {-2: 100}
    assert "not offered yet" in session.maps["events"].unreadable
    try:
        session.maps["events"].df()
    except UnsupportedError as error:
        assert "perf_event_array" in str(error)
    else:
        raise AssertionError("a stream has no table")
    return "100 events, refused"
