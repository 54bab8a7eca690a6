"""A listener on an interface, which takes nothing away and needs no --allow-change: 90 datagrams."""

SHOWS = "program: socket"
NEEDS = ("socket",)
OPTIONS = {"attach": {"listen": "socket:lo"}}
WORK = """python3 -c '
import socket, time
here = socket.socket(2, 2)
for _ in range(90):
    here.sendto(b"x" * 32, ("127.0.0.1", 40115))
time.sleep(0.5)
'"""


def prove(session, sh):
    sh(WORK)
    assert session.maps["heard"].df()["value"].tolist() == [90]
    return "90 datagrams heard"
