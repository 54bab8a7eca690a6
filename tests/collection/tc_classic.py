"""The classic filter of an interface's qdisc, which names a priority: 120 datagrams never leave."""

SHOWS = "program: tc, classic"
NEEDS = ("tc",)
OPTIONS = {"attach": {"shoot": "tc:lo:egress:77"}, "allow_change": True}
WORK = """python3 -c '
import socket, time
here, there = socket.socket(2, 2), socket.socket(2, 2)
there.bind(("127.0.0.1", 40103))
there.setblocking(False)
for _ in range(120):
    here.sendto(b"x" * 32, ("127.0.0.1", 40103))
time.sleep(0.2)
try:
    print(len(there.recv(64)))
except BlockingIOError:
    print("none arrived")
'"""


def prove(session, sh):
    assert sh(WORK).strip() == "none arrived"
    assert session.maps["shot"].df()["value"].tolist() == [120]
    return "120 datagrams shot"
