"""Connections led elsewhere: 20 to a port where nobody listens reach another one."""

SHOWS = "program: cgroup_sock_addr"
NEEDS = ("cgroup_sock_addr",)
OPTIONS = {"attach": {"lead": "cgroup:/"}, "allow_change": True}
WORK = """python3 -c '
import socket
server = socket.create_server(("127.0.0.1", 40110), backlog=32)
for _ in range(20):
    with socket.create_connection(("127.0.0.1", 40109)), server.accept()[0] as came:
        print(came.getsockname()[1])
'"""


def prove(session, sh):
    assert sh(WORK).split() == ["40110"] * 20
    assert session.maps["led"].df()["value"].tolist() == [20]
    return "20 connections led"
