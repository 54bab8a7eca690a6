"""A hook of the packet filter: 80 datagrams that are delivered to nobody."""

SHOWS = "program: netfilter"
NEEDS = ("netfilter",)
OPTIONS = {"attach": {"look": "netfilter:ipv4:local_in:40104"}, "allow_change": True}
WORK = """python3 -c '
import socket, time
here, there = socket.socket(2, 2), socket.socket(2, 2)
there.bind(("127.0.0.1", 40104))
there.setblocking(False)
for _ in range(80):
    here.sendto(b"x" * 32, ("127.0.0.1", 40104))
time.sleep(0.5)
try:
    print(len(there.recv(64)))
except BlockingIOError:
    print("none arrived")
'"""


def prove(session, sh):
    assert sh(WORK).strip() == "none arrived"
    assert session.maps["seen"].df()["value"].tolist() == [80]
    return "80 datagrams dropped"
