"""Packets larger than a page: 20 of 9,000 bytes, counted whole."""

SHOWS = "program: xdp.frags"
NEEDS = ("xdp",)
OPTIONS = {"attach": False, "allow_change": True}


def prove(session, sh):
    found = session.run("measure", data=[bytes(9000)] * 20)
    assert found["verdict"].tolist() == ["XDP_PASS"] * 20
    assert found["out"].map(len).tolist() == [9000] * 20
    assert session.maps["bytes"].df()["value"].tolist() == [20 * 9000]
    return "180,000 bytes in 20 packets"
