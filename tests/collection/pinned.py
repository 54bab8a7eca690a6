"""A map pinned by name: opened by its pin as any other program would, and unpinned."""

import ebpf_magic as em

SHOWS = "map: pinned"
NEEDS = ("tracepoint", "bpffs")
OPTIONS = {}
WORK = """python3 -c '
import os
fd = os.open("/dev/null", os.O_RDONLY)
for turn in range(400): os.lseek(fd, 0xe0110000 + turn % 4, os.SEEK_SET)'"""


def prove(session, sh):
    pinned = session.maps["em_collected"]
    try:
        assert pinned.pin_path == "/sys/fs/bpf/em_collected"
        sh(WORK)
        with em.map(pin=pinned.pin_path, on=session.host) as other:
            assert other.info["id"] == pinned.info["id"]
            assert other.df()["value"].to_dict() == dict.fromkeys(range(4), 100)
    finally:
        pinned.unpin()
    return "4 x 100 seeks, by the pin"
