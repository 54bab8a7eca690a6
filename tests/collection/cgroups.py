"""Cgroup ids as their paths: 100 opens of a process whose cgroup /proc tells."""

SHOWS = "types: cgroup ids"
NEEDS = ("tracepoint",)
OPTIONS = {}


def prove(session, sh):
    path = sh("cat /proc/self/cgroup").partition("0::")[2].split()[0]
    sh("ebpf-magic workload file --count 100")
    opens = session.maps["opens"]
    found = opens.df()["value"].to_dict()
    assert found == {path: 100}, f"{found}, not of {path}"
    assert opens.delete(path) == 1
    return f"100 opens in {path}"
