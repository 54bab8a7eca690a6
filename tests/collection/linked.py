"""Two cells as one: a filter with its map and its variable, linked into a program that counts calls of one name."""

import pandas as pd

SHOWS = "linked cells"
NEEDS = ("tracepoint",)
OTHERS = {"linked_filter": {"attach": False}}
OPTIONS = {"with_cells": ["linked_filter"]}
WORK = """
import os
open("/proc/self/comm", "w").write("em-link")
print(os.getpid())
for _ in range(23):
    os.getppid()
"""


def prove(session, sh):
    name = int.from_bytes(b"em-link", "little")
    session.maps["names"].update(pd.DataFrame({"value": [1]}, index=pd.Index([name], name="key")))
    pid = int(sh(f"python3 -I -S -c '{WORK}'"))
    sh(WORK.replace("em-link", "em-other").join(["python3 -I -S -c '", "'"]))
    assert session.maps["calls"].df()["value"].to_dict() == {pid: 23}
    return "23 calls through the other cell's filter"
