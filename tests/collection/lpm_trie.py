"""Addresses, each counted at the longest of three prefixes that it has."""

import pandas as pd

SHOWS = "map: lpm_trie"
NEEDS = ("tracepoint",)
OPTIONS = {}
WORK = """python3 -c '
import os
fd = os.open("/dev/null", os.O_RDONLY)
for turn in range(300): os.lseek(fd, 0xe0060000 + (turn % 3 << 8) + turn % 2, os.SEEK_SET)'"""


def prove(session, sh):
    routes = session.maps["routes"]
    routes.update(pd.DataFrame({"value": 0}, index=["10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "10.2.0.0/16"]))
    assert routes.delete(["10.2.0.0/16"]) == 1
    sh(WORK)
    # 10.0.y.1 and 10.2.y.1 have no route of their own; 10.1.y.1 is half in 10.1.1.0/24.
    assert routes.df()["value"].to_dict() == {"10.0.0.0/8": 200, "10.1.0.0/16": 50, "10.1.1.0/24": 50}
    return "300 addresses by longest prefix"
