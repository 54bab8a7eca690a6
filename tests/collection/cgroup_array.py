"""Cgroups to compare a task's with: of an empty place the kernel says EAGAIN, 70 times."""

import errno

SHOWS = "map: cgroup_array"
NEEDS = ("tracepoint",)
OPTIONS = {}


def prove(session, sh):
    sh("ebpf-magic workload file --count 70")
    assert session.maps["answers"].df()["value"].to_dict() == {-errno.EAGAIN: 70}
    return "70 times EAGAIN"
