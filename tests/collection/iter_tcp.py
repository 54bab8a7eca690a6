"""TCP sockets: the workload listens on 9 ports and says which."""

from __future__ import annotations

SHOWS = "program: iter/tcp"
NEEDS = ("iter",)
OPTIONS = {}
_WORK = (
    "import socket, time; made = [socket.create_server(('127.0.0.1', 0)) for _ in range(9)]; "
    "print(*(each.getsockname()[1] for each in made), flush=True); time.sleep(600)"
)


def prove(session, sh):
    command = session.agent_host.sh(f'exec python3 -I -S -c "{_WORK}"', background=True)
    try:
        while not command.output().endswith("\n"):
            assert command.poll() is None
        ports = list(map(int, command.output().split()))
        frame = session.iter["sockets"].df()
        listening = frame[(frame["state"] == 10) & (frame["family"] == 2)]  # TCP_LISTEN, AF_INET
        assert sorted(listening.loc[listening["port"].isin(ports), "port"]) == sorted(ports)
        assert len(ports) == 9
    finally:
        command.kill()
    return "9 listening sockets"
