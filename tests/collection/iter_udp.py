"""UDP sockets, a plain number each: the workload binds 5 ports and says which."""

from __future__ import annotations

SHOWS = "program: iter/udp"
NEEDS = ("iter",)
OPTIONS = {}
_WORK = (
    "import socket, time; made = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(5)]; "
    "[each.bind(('127.0.0.1', 0)) for each in made]; "
    "print(*(each.getsockname()[1] for each in made), flush=True); time.sleep(600)"
)


def prove(session, sh):
    command = session.agent_host.sh(f'exec python3 -I -S -c "{_WORK}"', background=True)
    try:
        while not command.output().endswith("\n"):
            assert command.poll() is None
        bound = list(map(int, command.output().split()))
        found = session.iter["ports"].df()["value"]
        assert sorted(found[found.isin(bound)]) == sorted(bound)
        assert len(bound) == 5
    finally:
        command.kill()
    return "5 sockets"
