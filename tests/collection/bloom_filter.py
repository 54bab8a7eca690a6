"""A bloom filter knows every place that was sought, and takes few others for one of them."""

import pandas as pd

SHOWS = "map: bloom_filter"
NEEDS = ("tracepoint", "bloom_filter")
OPTIONS = {}
WORK = """python3 -c '
import os
fd = os.open("/dev/null", os.O_RDONLY)
for place in range(100): os.lseek(fd, 0xe0090000 + place, os.SEEK_SET)'"""


def prove(session, sh):
    places = session.maps["places"]
    sh(WORK)
    places.update(pd.DataFrame({"value": [70_000]}))
    assert places.contains([*range(100), 70_000]).all()
    others = places.contains(range(1000, 2000))
    assert others.sum() < 10
    return f"101 of 101 known, {others.sum()} of 1,000 others"
