"""A global function, verified by itself: it adds 3 for each of 23 system calls with a certain argument."""

SHOWS = "global function"
NEEDS = ("raw_tp",)
OPTIONS = {}
WORK = """
import os
print(os.getpid())
for _ in range(23):
    try:
        os.getpgid(0x7fffff00)
    except ProcessLookupError:
        pass
"""


def prove(session, sh):
    pid = int(sh(f"python3 -I -S -c '{WORK}'"))
    assert session.maps["calls"].df()["value"][pid] == 23 * 3
    return "23 times 3"
