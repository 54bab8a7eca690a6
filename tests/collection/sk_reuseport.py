"""Sockets that share a port: for 20 datagrams a program is asked which; with no socket in the map there is none."""

import errno
from pathlib import Path

import ebpf_magic as em

SHOWS = "program: sk_reuseport, map: reuseport_sockarray"
NEEDS = ("sk_reuseport",)
OPTIONS = {"attach": False, "allow_change": True}
SERVE = """exec python3 -c '
import select, socket
pair = [socket.socket(2, 2), socket.socket(2, 2)]
for one in pair:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind(("127.0.0.1", 40119))
for _ in range(20):
    select.select(pair, [], [], 30)[0][0].recv(64)
'"""
SEND = """python3 -c '
import socket
one = socket.socket(2, 2)
for _ in range(20):
    one.sendto(b"x" * 32, ("127.0.0.1", 40119))
'"""


def prove(session, sh):
    server = session.agent_host.sh(SERVE, background=True)
    try:
        # 40119 in hexadecimal. What is attached to sockets comes after them: the cell runs again.
        sh("until grep -q ':9CB7 ' /proc/net/udp; do sleep 0.1; done")
        source = Path(__file__).with_suffix(".bpf.c").read_text()
        options = {"attach": {"choose": "port:udp/40119"}, "allow_change": True}
        with em.run(source, name=session.name, on=session.host, **options) as again:
            sh(SEND)
            assert server.wait(30) == 0
            assert again.maps["answers"].df()["value"].to_dict() == {-errno.ENOENT: 20}
    finally:
        server.kill()
    return "20 datagrams, asked each time"
