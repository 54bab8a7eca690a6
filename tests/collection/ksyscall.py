"""The argument of a system call: 23 times one that no process has."""

SHOWS = "program: ksyscall"
NEEDS = ("ksyscall",)
OPTIONS = {}
NOBODY = 0x7FFFFF00
WORK = f"""
import os
for _ in range(23):
    try:
        os.getpgid({NOBODY})
    except ProcessLookupError:
        pass
"""


def prove(session, sh):
    sh(f"python3 -I -S -c '{WORK}'")
    assert session.maps["asked"].df()["value"][NOBODY] == 23
    return "23 calls with that argument"
