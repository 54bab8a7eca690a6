"""What the processes of a cgroup send and receive: 60 datagrams out, and 40 that are not let in."""

SHOWS = "program: cgroup_skb"
NEEDS = ("cgroup_skb",)
OPTIONS = {"attach": {"leaving": "cgroup:/", "coming": "cgroup:/"}, "allow_change": True}
WORK = """python3 -c '
import socket, time
here, there = socket.socket(2, 2), socket.socket(2, 2)
there.bind(("127.0.0.1", 40106))
there.setblocking(False)
for _ in range(60):
    here.sendto(b"x" * 32, ("127.0.0.1", 40105))
for _ in range(40):
    here.sendto(b"x" * 32, ("127.0.0.1", 40106))
time.sleep(0.5)
try:
    print(len(there.recv(64)))
except BlockingIOError:
    print("none arrived")
'"""


def prove(session, sh):
    assert sh(WORK).strip() == "none arrived"
    assert session.maps["packets"].df()["value"].to_dict() == {40105: 60, 40106: 40}
    return "60 sent, 40 refused"
