"""A probe that Python brings along, with a semaphore and an argument: 23 audit events of one name."""

SHOWS = "program: usdt"
NEEDS = ("usdt",)
OPTIONS = {}


def prove(session, sh):
    pid = int(
        sh("""/usr/bin/python3 -I -S -c 'import os, sys; print(os.getpid())
for _ in range(23): sys.audit("em.work")' """)
    )
    assert session.maps["audits"].df()["value"][(pid, "em.work")] == 23
    return "23 audit events"
