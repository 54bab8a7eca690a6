"""A security hook that says no: to a process of a certain name, getpgid() is refused 23 times."""

SHOWS = "program: lsm"
NEEDS = ("lsm",)
OPTIONS = {"allow_change": True}
WORK = """
import os
open("/proc/self/comm", "w").write("em-lsm")
refused = 0
for _ in range(23):
    try:
        os.getpgid(os.getpid())
    except PermissionError:
        refused += 1
print(refused)
"""


def prove(session, sh):
    assert int(sh(f"python3 -I -S -c '{WORK}'")) == 23
    assert session.maps["refused"].df().loc["em-lsm", "value"] == 23
    return "23 calls refused"
