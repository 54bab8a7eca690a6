"""Programs that a program array holds from its declaration: 100 numbers from 0 to 3, of which two have a program."""

SHOWS = "map: prog_array, filled by its declaration"
NEEDS = ("tracepoint",)
OPTIONS = {}
WORK = """python3 -c '
import os
fd = os.open("/dev/null", os.O_RDONLY)
for turn in range(100): os.lseek(fd, 0xe0220000 | turn & 3, os.SEEK_SET)'"""


def prove(session, sh):
    sh(WORK)
    assert session.vars["taken"].tolist() == [25, 25, 50]
    assert session.programs["target"].to_dict() == {"even": "", "odd": "", "on_lseek": "syscalls/sys_enter_lseek"}
    return "2 x 25 tail calls, 50 without"
