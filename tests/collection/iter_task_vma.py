"""Memory mappings: the workload's are those that /proc/self/maps tells it, and stay while it sleeps."""

from __future__ import annotations

SHOWS = "program: iter/task_vma"
NEEDS = ("iter",)
OPTIONS = {}
# A command that says its mappings and then, without another allocation, waits for its end.
_WORK = 'exec python3 -I -S -c "import os, time; print(os.getpid(), flush=True); time.sleep(600)"'


def prove(session, sh):
    command = session.agent_host.sh(_WORK, background=True)
    try:
        while not command.output():
            assert command.poll() is None
        pid = int(command.output())
        said = sh(f"cat /proc/{pid}/maps").splitlines()
        spans = [
            tuple(int(part, 16) for part in line.split()[0].split("-")) for line in said if "[vsyscall]" not in line
        ]
        frame = session.iter["mappings"].df()
        mine = frame[frame["pid"] == pid]
        assert list(zip(mine["start"], mine["end"], strict=True)) == spans
        assert len(spans) > 20
    finally:
        command.kill()
    return "the mappings of a process"
