"""Steps of TCP connections: 12 connects, 12 established on either side, 1 socket that listens."""

SHOWS = "program: sock_ops"
NEEDS = ("sock_ops",)
OPTIONS = {"attach": {"on_op": "cgroup:/"}, "allow_change": True}
WORK = """python3 -c '
import socket
server = socket.create_server(("127.0.0.1", 40111), backlog=32)
for _ in range(12):
    with socket.create_connection(("127.0.0.1", 40111)), server.accept()[0]:
        pass
'"""
CONNECT, ACTIVE, PASSIVE, LISTEN = 3, 4, 5, 11  # BPF_SOCK_OPS_TCP_CONNECT_CB and its kin


def prove(session, sh):
    sh(WORK)
    ops = session.maps["ops"].df()["value"].to_dict()
    assert {op: ops.get(op) for op in (CONNECT, ACTIVE, PASSIVE, LISTEN)} == {
        CONNECT: 12,
        ACTIVE: 12,
        PASSIVE: 12,
        LISTEN: 1,
    }
    return "12 connections, step by step"
