"""A program that runs where packets are sent on to, a CPU: of 120 datagrams it sees the 60 of its time."""

import time

SHOWS = "program: xdp_cpumap"
NEEDS = ("xdp",)
OPTIONS = {"attach": {"send_on": "xdp:lo"}, "allow_change": True}
SEND = """python3 -c '
import socket
here = socket.socket(2, 2)
for _ in range(60):
    here.sendto(b"x" * 32, ("127.0.0.1", 40103))
'"""


def prove(session, sh):
    import pandas as pd

    targets, seen = session.maps["targets"], session.maps["seen"]
    targets.update(
        pd.DataFrame({"queue_size": [192], "program": ["there"]}, index=[0])
    )  # for CPU 0, which is always there
    assert targets.df().loc[0, ["queue_size", "program"]].tolist() == [192, "there"]
    sh(SEND)
    deadline = time.monotonic() + 30  # the kernel sends on when it comes to it
    while seen.df().loc[0, "value"] < 60 and time.monotonic() < deadline:
        time.sleep(0.02)
    targets.delete([0])
    sh(f"{SEND} || true")  # now they arrive, where nobody listens
    assert seen.df()["value"].tolist() == [60]
    return "60 of 120 datagrams seen there"
