"""Two functions of a library by one pattern, at their beginning: 10 calls of the one and 13 of the other."""

SHOWS = "program: uprobe.multi"
NEEDS = ("uprobe.multi",)
OPTIONS = {}
WORK = """
import os
print(os.getpid())
for _ in range(10):
    os.getppid()
for _ in range(13):
    os.getpgid(0)
"""


def prove(session, sh):
    pid = int(sh(f"python3 -I -S -c '{WORK}'"))
    assert session.maps["calls"].df()["value"][pid] == 23
    assert session.programs.loc["on_call", "target"].endswith("(2 functions)")
    return "23 calls of 2 functions"
