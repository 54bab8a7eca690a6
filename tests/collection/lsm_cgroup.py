"""A hook of the security modules, for one cgroup: a port that none of its processes may bind, tried 6 times."""

SHOWS = "program: lsm_cgroup"
NEEDS = ("lsm_cgroup",)
OPTIONS = {"attach": {"on_bind": "cgroup:/"}, "allow_change": True}
WORK = """python3 -c '
import socket
for _ in range(6):
    with socket.socket(2, 2) as one:
        try:
            one.bind(("127.0.0.1", 40116))
        except PermissionError:
            print("refused")
'"""


def prove(session, sh):
    assert sh(WORK).split() == ["refused"] * 6
    assert session.maps["binds"].df()["value"].tolist() == [6]
    return "6 binds refused"
