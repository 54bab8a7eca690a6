"""Packets for a socket of user space: with none in the map, 10 of 10 go where the program says instead."""

SHOWS = "map: xskmap"
NEEDS = ("xdp",)
OPTIONS = {"attach": False, "allow_change": True}


def prove(session, sh):
    assert session.run("send_up", data=[bytes(60)] * 10)["verdict"].tolist() == ["XDP_TX"] * 10
    return "10 packets, no socket"
