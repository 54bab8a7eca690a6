"""Two functions of a library by one pattern, at their return: 10 calls of the one and 13 of the other."""

SHOWS = "program: uretprobe.multi"
NEEDS = ("uretprobe.multi",)
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
