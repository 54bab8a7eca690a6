"""A lock in a map's value, which the kernel shows to nobody: 50 transfers of 5 from one account to another."""

SHOWS = "types: a lock in a value"
NEEDS = ("xdp",)
OPTIONS = {"attach": False, "allow_change": True}


def prove(session, sh):
    assert set(session.run("transfer", data=[bytes(64)] * 50)["verdict"]) == {"XDP_PASS"}
    rows = session.maps["accounts"].df().sort_index()
    assert rows["changes"].tolist() == [50, 50]
    assert rows["balance"].tolist() == [-250, 250]
    return "50 transfers"
