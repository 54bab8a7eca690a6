"""A histogram as libbpf's own tools keep theirs: of 1 to 4,095 each slot has twice as many as the one before."""

from pathlib import Path

SHOWS = "own headers, log2 slots"
NEEDS = ("tracepoint",)
OPTIONS = {"set": {"wanted_offset": 0xE020}, "include": [str(Path(__file__).with_name("headers"))]}
WORK = """python3 -c '
import os
fd = os.open("/dev/null", os.O_RDONLY)
for value in range(1, 4096): os.lseek(fd, 0xe0200000 | value, os.SEEK_SET)
print(os.getpid())'"""


def prove(session, sh):
    pid = int(sh(WORK))
    row = session.maps["hists"].df().loc[pid]
    assert [row[f"slots[{slot}]"] for slot in range(12)] == [2**slot for slot in range(12)]
    assert row["comm"] == "python3"
    assert not session.vars["per_thread"]
    return "4,095 values in 12 slots"
