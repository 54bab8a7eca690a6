"""What is sent through sockets that a program has put into a map: 50 times 100 bytes."""

SHOWS = "program: sk_msg, map: sockhash"
NEEDS = ("sock_ops", "sk_msg")
OPTIONS = {"attach": {"collect": "cgroup:/", "on_send": "map:pairs"}, "allow_change": True}
WORK = """python3 -c '
import socket
server = socket.create_server(("127.0.0.1", 40112))
with socket.create_connection(("127.0.0.1", 40112)) as client, server.accept()[0] as there:
    got = 0
    for _ in range(50):
        client.sendall(b"x" * 100)
        got += len(there.recv(100, socket.MSG_WAITALL))
    print(got)
'"""


def prove(session, sh):
    assert sh(WORK).strip() == "5000"
    assert session.maps["bytes"].df()["value"].tolist() == [5000]
    return "5,000 bytes sent"
