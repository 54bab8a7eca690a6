"""What opening a file came to, by process: 23 times ENOTDIR."""

import errno

SHOWS = "program: kretprobe"
NEEDS = ("kretprobe",)
OPTIONS = {}
WORK = """
import os
print(os.getpid())
for _ in range(23):
    try:
        os.open("/dev/null/x", os.O_RDONLY)
    except NotADirectoryError:
        pass
"""


def prove(session, sh):
    pid = int(sh(f"python3 -I -S -c '{WORK}'"))
    assert session.maps["opens"].df()["value"][(pid, -errno.ENOTDIR)] == 23
    return "23 times ENOTDIR"
