"""Packets of a cgroup, kept with the cgroup: 70 datagrams of 60 bytes, headers and all."""

SHOWS = "map: cgroup_storage, map: percpu_cgroup_storage"
NEEDS = ("cgroup_skb",)
OPTIONS = {"attach": {"leaving": "cgroup:/"}, "allow_change": True}
WORK = """python3 -c '
import socket
here = socket.socket(2, 2)
for _ in range(70):
    here.sendto(b"x" * 32, ("127.0.0.1", 40107))
'"""


def prove(session, sh):
    sh(WORK)
    assert session.maps["sent"].df()["value"].tolist() == [70]
    assert session.maps["bytes"].df()["value"].tolist() == [70 * 60]
    return "70 sent, 4,200 bytes"
