"""What a function of a library returned, by process: 23 times the parent's number."""

SHOWS = "program: uretprobe"
NEEDS = ("uretprobe",)
OPTIONS = {}


def prove(session, sh):
    said = sh("python3 -I -S -c 'import os; print(os.getpid()); print({os.getppid() for _ in range(23)}.pop())'")
    pid, parent = map(int, said.split())
    assert session.maps["calls"].df()["value"][(pid, parent)] == 23
    return "23 times the parent"
