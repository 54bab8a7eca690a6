"""Events that nobody takes: 255 of 16 bytes fit into the page, 45 are refused; the map says why it has no table."""

from ebpf_magic.errors import UnsupportedError

SHOWS = "map: ringbuf"
NEEDS = ("tracepoint",)
OPTIONS = {}
WORK = """python3 -c '
import os
fd = os.open("/dev/null", os.O_RDONLY)
for turn in range(300): os.lseek(fd, 0xe0100000, os.SEEK_SET)'"""


def prove(session, sh):
    sh(WORK)
    assert session.maps["results"].df()["value"].to_dict() == {0: 255, -11: 45}
    assert "not offered yet" in session.maps["events"].unreadable
    try:
        session.maps["events"].df()
    except UnsupportedError as error:
        assert "ringbuf" in str(error)
    else:
        raise AssertionError("a stream has no table")
    return "255 of 300 events"
