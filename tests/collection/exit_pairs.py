"""Entry and exit of a system call paired by thread: 40 opens of a file that is not there, and what the last asked."""

import os

SHOWS = "entry and exit paired by thread"
NEEDS = ("tracepoint",)
FLAGS = os.O_WRONLY | os.O_SYNC | os.O_NOFOLLOW  # nobody else is likely to
OPTIONS = {"set": {"failed_only": True, "wanted_flags": FLAGS}}
WORK = f"""python3 -c '
import os
for turn in range(40):
    try: os.open("/em/no/such/file", {FLAGS})
    except FileNotFoundError: pass
os.open("/dev/null", {FLAGS})
print(os.getpid())'"""


def prove(session, sh):
    pid = int(sh(WORK))
    assert session.maps["answers"].df().xs(pid, level="pid")["value"].to_dict() == {-2: 40}
    row = session.maps["last"].df().loc[pid]
    assert row[["ret", "comm", "name"]].tolist() == [-2, "python3", "/em/no/such/file"]
    assert row["flags"] & FLAGS == FLAGS
    return "40 times no such file"
