"""A function of a running program, replaced by another session's: of 23 calls each weighs 1, then 5, then 1 again."""

import ebpf_magic as em

SHOWS = "program: freplace"
NEEDS = ("freplace", "tracepoint")
OTHERS = {"freplace_replaced": {}}
OPTIONS = {"attach": {"another_weight": "freplace_replaced:weight"}, "allow_change": True}
WORK = "python3 -I -S -c 'import os; print(os.getpid()); [os.getppid() for _ in range(23)]'"


def prove(session, sh):
    during = int(sh(WORK))
    session.stop()
    after = int(sh(WORK))
    (replaced,) = (other for other in em.sessions() if other.name == "freplace_replaced")
    sums = replaced.maps["sums"].df()["value"]
    assert (sums[during], sums[after]) == (23 * 5, 23)
    return "23 calls of 5, then of 1"
