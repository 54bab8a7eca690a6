"""Seeks by two processes on all CPUs: the sum over the CPUs is exact, and each CPU has its part."""

SHOWS = "map: percpu_array"
NEEDS = ("tracepoint",)
OPTIONS = {}
WORK = """python3 -c '
import os
fd = os.open("/dev/null", os.O_RDONLY)
for cpu in os.sched_getaffinity(0):
    os.sched_setaffinity(0, [cpu])
    for turn in range(400): os.lseek(fd, 0xe0020000 + turn % 4, os.SEEK_SET)
print(*sorted(os.sched_getaffinity(os.getppid())))'"""


def prove(session, sh):
    cpus = [int(word) for word in sh(WORK).split()]
    assert session.maps["seeks"].df()["value"].tolist() == [100 * len(cpus)] * 4
    each = session.maps["seeks"].df(per_cpu=True)["value"]
    assert all(each[(index, cpu)] == 100 for index in range(4) for cpu in cpus)
    return f"4 x 100 seeks on each of {len(cpus)} CPUs"
