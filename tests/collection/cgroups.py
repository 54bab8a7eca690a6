"""Cgroup ids as their paths: 100 opens of a process whose cgroup /proc tells."""

SHOWS = "types: cgroup ids"
NEEDS = ("tracepoint",)
OPTIONS = {}


def prove(session, sh):
    path = sh("sed -n s/^0:://p /proc/self/cgroup").strip()
    sh("ebpf-magic workload file --count 100")
    opens = session.maps["opens"]
    assert opens.df()["value"].to_dict() == {path: 100}
    assert opens.delete(path) == 1
    return f"100 opens in {path}"
