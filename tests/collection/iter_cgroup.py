"""Cgroups from the root down: the first is the root, whose id is the inode of its folder, and each is there once."""

from __future__ import annotations

SHOWS = "program: iter/cgroup"
NEEDS = ("iter",)
OPTIONS = {}


def prove(session, sh):
    mounts = [line.split() for line in sh("cat /proc/self/mountinfo").splitlines() if " - cgroup2 " in line]
    inode = int(sh(f"stat -c %i {mounts[0][4]}"))
    frame = session.iter["groups"].df()
    assert frame.iloc[0].tolist() == [inode, 0]
    assert frame["id"].is_unique
    assert (frame["level"] == 0).sum() == 1
    return "the root first, each once"
