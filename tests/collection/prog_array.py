"""Tail calls: one place filled by the cell, the other by name while it runs; three programs in a row run 23 times."""

SHOWS = "map: prog_array"
NEEDS = ("tracepoint",)
OPTIONS = {}
WORK = "python3 -I -S -c 'import os; print(os.getpid()); [os.getppid() for _ in range(23)]'"


def prove(session, sh):
    steps = session.maps["steps"]
    before = int(sh(WORK))
    session.maps["jump"].update({0: "middle"})
    after = int(sh(WORK))
    counts = steps.df()["value"]
    assert counts[before].to_dict() == {1: 23, 99: 23}
    assert counts[after].to_dict() == {1: 23, 2: 23, 3: 23}
    return "3 programs in a row, 23 times"
