"""An interface that drops the datagrams to one port: of 100 sent, none arrives."""

SHOWS = "program: xdp"
NEEDS = ("xdp",)
OPTIONS = {"attach": {"drop": "xdp:lo"}, "allow_change": True}
WORK = """python3 -c '
import socket, time
here, there = socket.socket(2, 2), socket.socket(2, 2)
there.bind(("127.0.0.1", 40101))
there.setblocking(False)
for _ in range(100):
    here.sendto(b"x" * 32, ("127.0.0.1", 40101))
time.sleep(0.5)
try:
    print(len(there.recv(64)))
except BlockingIOError:
    print("none arrived")
'"""


def prove(session, sh):
    assert sh(WORK).strip() == "none arrived"
    assert session.maps["dropped"].df()["value"].tolist() == [100]
    return "100 datagrams dropped"
