"""What an interface receives, by tcx where the kernel has it: 150 datagrams to one port."""

SHOWS = "program: tc"
NEEDS = ("tc",)
OPTIONS = {"attach": {"count": "tc:lo:ingress"}, "allow_change": True}
WORK = """python3 -c '
import socket, time
here = socket.socket(2, 2)
for _ in range(150):
    here.sendto(b"x" * 32, ("127.0.0.1", 40102))
time.sleep(0.5)
'"""


def prove(session, sh):
    sh(WORK)
    assert session.maps["seen"].df()["value"].tolist() == [150]
    return "150 datagrams received"
