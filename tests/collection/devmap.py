"""Packets redirected to an interface, by the map's key: 20 of 80, for two of eight keys lead to one."""

SHOWS = "map: devmap"
NEEDS = ("xdp",)
OPTIONS = {"attach": False, "allow_change": True}


def prove(session, sh):
    keys = b"".join(key.to_bytes(4, "little") for key in (1, 5))
    session.maps["targets"].handle.update(keys, (1).to_bytes(4, "little") * 2, 2)
    found = session.run("send_on", data=[bytes(14) + bytes([number % 8]) + bytes(45) for number in range(80)])
    assert found["verdict"].value_counts()[["XDP_REDIRECT", "XDP_DROP"]].tolist() == [20, 60]
    return "20 of 80 packets redirected"
