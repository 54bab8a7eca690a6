"""Sockets that a cgroup's processes make and bind: 25 of a rare protocol, one port granted 10 times, one refused 5."""

SHOWS = "program: cgroup_sock"
NEEDS = ("cgroup_sock",)
OPTIONS = {"attach": {"on_create": "cgroup:/", "on_bound": "cgroup:/"}, "allow_change": True}
WORK = """python3 -c '
import socket
for _ in range(25):
    socket.socket(2, 2, 136).close()
refused = 0
for port in [40107] * 10 + [40108] * 5:
    with socket.socket(2, 2) as bound:
        try:
            bound.bind(("127.0.0.1", port))
        except PermissionError:
            refused += 1
print(refused)
'"""


def prove(session, sh):
    assert sh(WORK).strip() == "5"
    assert session.maps["made"].df()["value"].tolist() == [25]
    assert session.maps["bound"].df()["value"].to_dict() == {40107: 10, 40108: 5}
    return "25 made, 10 bound, 5 refused"
