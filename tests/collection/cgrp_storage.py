"""Seeks by a process, counted in what hangs on its cgroup and found by the cgroup's path."""

SHOWS = "map: cgrp_storage"
NEEDS = ("tp_btf", "cgrp_storage")
OPTIONS = {}
WORK = """python3 -c '
import os
fd = os.open("/dev/null", os.O_RDONLY)
for turn in range(400): os.lseek(fd, 0xe00d0000, os.SEEK_SET)
print(next(line[3:] for line in open("/proc/self/cgroup") if line.startswith("0::")))'"""


def prove(session, sh):
    path = sh(WORK).strip()
    assert session.maps["seeks"].df()["value"].to_dict() == {path: 400}
    assert session.maps["seeks"].lookup(path)["value"] == 400
    return "400 seeks at one cgroup"
