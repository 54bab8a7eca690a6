"""A function of the kernel with its argument and what it returns: 23 times 0."""

SHOWS = "program: fexit"
NEEDS = ("fexit",)
OPTIONS = {}


def prove(session, sh):
    pid = int(sh("python3 -I -S -c 'import os; pid = os.getpid(); print(pid); [os.getpgid(pid) for _ in range(23)]'"))
    assert session.maps["calls"].df()["value"][pid] == 23
    return "23 calls"
