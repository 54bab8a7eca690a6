"""A function of the kernel with its typed argument: a process asks for its own group 23 times."""

SHOWS = "program: fentry"
NEEDS = ("fentry",)
OPTIONS = {}


def prove(session, sh):
    pid = int(sh("python3 -I -S -c 'import os; pid = os.getpid(); print(pid); [os.getpgid(pid) for _ in range(23)]'"))
    assert session.maps["calls"].df()["value"][pid] == 23
    return "23 calls"
