"""What a system call returned, by process: 23 times ESRCH."""

import errno

SHOWS = "program: kretsyscall"
NEEDS = ("kretsyscall",)
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
    assert session.maps["calls"].df()["value"][(pid, -errno.ESRCH)] == 23
    return "23 times ESRCH"
