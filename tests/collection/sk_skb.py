"""A stream cut into messages by a program: 33 messages of 10 bytes, however they were sent."""

SHOWS = "program: sk_skb, map: sockmap"
NEEDS = ("sock_ops", "sk_skb")
OPTIONS = {
    "attach": {"collect": "cgroup:/", "parse": "map:streams", "judge": "map:streams"},
    "allow_change": True,
}
WORK = """python3 -c '
import socket
server = socket.create_server(("127.0.0.1", 40113))
with socket.create_connection(("127.0.0.1", 40113)) as client, server.accept()[0] as there:
    client.sendall((b"\\x0a" + b"x" * 9) * 33)
    print(len(there.recv(330, socket.MSG_WAITALL)))
'"""


def prove(session, sh):
    assert sh(WORK).strip() == "330"
    assert session.maps["messages"].df()["value"].tolist() == [33]
    return "33 messages of 10 bytes"
