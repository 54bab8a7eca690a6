"""Addresses, ports and hardware addresses as people read them: 50 connections to a server on the loopback."""

SHOWS = "types: addresses"
NEEDS = ("tracepoint",)
OPTIONS = {}
PORT = 47113
CONNECT = (
    "import socket; server = socket.create_server(('127.0.0.1', {port}), backlog=64); "
    "made = [socket.create_connection(server.getsockname()) for _ in range(50)]"
)


def prove(session, sh):
    sh(f'python3 -c "{CONNECT.format(port=PORT)}"')
    frame = session.maps["connects"].df().droplevel(["padding[0]", "padding[1]"])
    assert frame["value"].to_dict() == {("127.0.0.1", "127.0.0.1", "::ffff:127.0.0.1", PORT, "02:00:00:00:00:01"): 50}
    assert session.maps["by_address"].df()["value"].to_dict() == {"127.0.0.1": "0x2a"}
    assert session.maps["by_address"].delete("127.0.0.1") == 1
    return "50 connections to 127.0.0.1"
