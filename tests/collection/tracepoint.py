"""getppid() by process, at the system call's tracepoint: 23 calls of one process."""

SHOWS = "program: tracepoint"
NEEDS = ("tracepoint",)
OPTIONS = {}


def prove(session, sh):
    pid = int(sh("python3 -I -S -c 'import os; print(os.getpid()); [os.getppid() for _ in range(23)]'"))
    assert session.maps["calls"].df()["value"][pid] == 23
    return "23 calls"
