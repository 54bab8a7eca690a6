"""Threads as rows: the workload is a process with 22 threads beside its first, for as long as it is looked at."""

from __future__ import annotations

SHOWS = "program: iter/task"
NEEDS = ("iter",)
OPTIONS = {}
_WORK = (
    "import os, threading, time; "
    "[threading.Thread(target=time.sleep, args=(600,), daemon=True).start() for _ in range(22)]; "
    "print(os.getpid(), flush=True); time.sleep(600)"
)


def prove(session, sh):
    command = session.agent_host.sh(f'exec python3 -I -S -c "{_WORK}"', background=True)
    try:
        while not command.output():
            assert command.poll() is None
        frame = session.iter["threads"].df()
        assert (frame["pid"] == int(command.output())).sum() == 23
    finally:
        command.kill()
    return "23 threads"
