"""getppid() by process, told by its number where all system calls begin: 23 calls of one process."""

SHOWS = "program: raw_tp"
NEEDS = ("raw_tp",)
OPTIONS = {}


def prove(session, sh):
    pid = int(sh("python3 -I -S -c 'import os; print(os.getpid()); [os.getppid() for _ in range(23)]'"))
    assert session.maps["calls"].df()["value"][pid] == 23
    return "23 calls"
