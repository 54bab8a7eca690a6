"""Opens by the task's name: the workload, which names itself, makes 1,000."""

SHOWS = "map: hash"
NEEDS = ("tracepoint",)
OPTIONS = {}


def prove(session, sh):
    sh("ebpf-magic workload file --count 1000")
    assert session.maps["opens"].df().loc["workload-file", "value"] == 1000
    return "1,000 opens"
