"""One server for ten ports: a connection to each of them reaches the socket that listens on another."""

SHOWS = "program: sk_lookup, map: sockmap"
NEEDS = ("sock_ops", "sk_lookup")
OPTIONS = {"attach": {"on_listen": "cgroup:/"}, "allow_change": True}
WORK = """python3 -c '
import socket
server = socket.create_server(("127.0.0.1", 40114), backlog=32)
for port in range(40200, 40210):
    with socket.create_connection(("127.0.0.1", port)), server.accept()[0] as came:
        print(came.getsockname()[1])
'"""


def prove(session, sh):
    assert sh(WORK).split() == [str(port) for port in range(40200, 40210)]
    assert session.maps["led"].df()["value"].to_dict() == dict.fromkeys(range(40200, 40210), 1)
    return "10 ports, 1 listener"
