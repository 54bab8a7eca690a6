"""Seeks from one place of a program: few stacks, whose frames have the addresses of user space."""

SHOWS = "map: stack_trace"
NEEDS = ("tracepoint",)
OPTIONS = {}
WORK = """python3 -c '
import os
fd = os.open("/dev/null", os.O_RDONLY)
for turn in range(400): os.lseek(fd, 0xe00e0000, os.SEEK_SET)'"""


def prove(session, sh):
    sh(WORK)
    seeks, stacks = session.maps["seeks"].df()["value"], session.maps["stacks"].df()
    assert seeks.sum() == 400
    assert set(seeks.index) == set(stacks.index.get_level_values("key"))
    assert (stacks["address"] < 1 << 47).all() and (stacks["address"] > 0).all()
    return "400 seeks by their stacks"
