"""A TCP congestion control of one's own: the kernel calls it for each of 15 connections that choose it."""

SHOWS = "program: struct_ops, map: struct_ops"
NEEDS = ("struct_ops",)
OPTIONS = {"allow_change": True}
WORK = """python3 -c '
import socket
server = socket.create_server(("127.0.0.1", 40117), backlog=32)
for _ in range(15):
    with socket.socket() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"em_count")
        client.connect(("127.0.0.1", 40117))
        server.accept()[0].close()
'"""


def prove(session, sh):
    sh(WORK)
    assert session.maps["calls"].df()["value"].to_dict() == {1: 15}
    return "15 connections under it"
