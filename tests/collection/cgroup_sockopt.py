"""Socket options of a level that the kernel does not have: set 40 times, and read with the program's own answer."""

SHOWS = "program: cgroup_sockopt"
NEEDS = ("cgroup_sockopt",)
OPTIONS = {"attach": {"on_set": "cgroup:/", "on_get": "cgroup:/"}, "allow_change": True}
WORK = """python3 -c '
import socket
one = socket.socket(2, 2)
for _ in range(40):
    one.setsockopt(4711, 7, b"abcd")
print(one.getsockopt(4711, 8, 4))
'"""


def prove(session, sh):
    assert sh(WORK).strip() == r"b'\t'"
    assert session.maps["set"].df()["value"].to_dict() == {7: 40}
    return "40 set, 1 answered"
