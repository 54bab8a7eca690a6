"""Packets redirected to a CPU, by the map's key: 10 of 80, for one of eight keys leads to one."""

SHOWS = "map: cpumap"
NEEDS = ("xdp",)
OPTIONS = {"attach": False, "allow_change": True}


def prove(session, sh):
    session.maps["targets"].handle.update(bytes(4), (192).to_bytes(4, "little"), 1)  # of CPU 0, which is always there
    found = session.run("send_on", data=[bytes(14) + bytes([number % 8]) + bytes(45) for number in range(80)])
    assert found["verdict"].value_counts()[["XDP_REDIRECT", "XDP_DROP"]].tolist() == [10, 70]
    return "10 of 80 packets redirected"
