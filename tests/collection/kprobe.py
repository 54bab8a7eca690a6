"""A function of the kernel, by the process that calls it: getpgid() is asked for 23 times."""

SHOWS = "program: kprobe"
NEEDS = ("kprobe",)
OPTIONS = {}


def prove(session, sh):
    pid = int(sh("python3 -I -S -c 'import os; pid = os.getpid(); print(pid); [os.getpgid(pid) for _ in range(23)]'"))
    assert session.maps["calls"].df()["value"][pid] == 23
    return "23 calls"
