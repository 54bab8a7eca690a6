"""What a function of the kernel returns, changed: to a process of a certain name, getpgid() is refused 23 times."""

SHOWS = "program: fmod_ret"
NEEDS = ("fmod_ret",)
OPTIONS = {"allow_change": True}
WORK = """
import os
open("/proc/self/comm", "w").write("em-fmod_ret")
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
    assert session.maps["refused"].df().loc["em-fmod_ret", "value"] == 23
    return "23 calls refused"
