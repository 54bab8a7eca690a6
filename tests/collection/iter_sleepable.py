"""A sleeping iterator reads other processes' memory: what the workload was started as."""

from __future__ import annotations

SHOWS = "program: iter.s/task"
NEEDS = ("iter",)
OPTIONS = {}


def prove(session, sh):
    command = session.agent_host.sh(
        "exec python3 -I -S -c 'import os, time; print(os.getpid(), flush=True); time.sleep(600)'", background=True
    )
    try:
        while not command.output():
            assert command.poll() is None
        frame = session.iter["arguments"].df().set_index("pid")
        # Up to the first NUL: the name it was started by.
        assert frame.loc[int(command.output()), "said"] == "python3"
    finally:
        command.kill()
    return "its argv[0]"
