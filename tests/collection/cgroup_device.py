"""Devices that a cgroup's processes open: /dev/full (1:7), 30 times."""

SHOWS = "program: cgroup_device"
NEEDS = ("cgroup_device",)
OPTIONS = {"attach": {"on_device": "cgroup:/"}, "allow_change": True}


def prove(session, sh):
    sh("""python3 -c 'for _ in range(30): open("/dev/full", "rb", 0).close()'""")
    assert session.maps["opened"].df()["value"].tolist() == [30]
    return "30 opens of /dev/full"
