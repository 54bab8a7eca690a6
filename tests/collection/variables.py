"""Global variables: set before loading, written while it runs, read then and afterwards: 3 times 100 opens."""

SHOWS = "variables: .data, .bss, .rodata"
NEEDS = ("tracepoint",)
OPTIONS = {"set": {"step": 2, "wanted": "workload-file"}}


def prove(session, sh):
    assert (session.vars["step"], session.vars["wanted"]) == (2, "workload-file")
    sh("ebpf-magic workload file --count 100")
    assert session.vars["totals"].to_dict() == {"calls": 200, "flags": 9, "last": "workload-file"}
    session.vars["factor"] = 10
    sh("ebpf-magic workload file --count 100")
    assert session.vars["totals.calls"] == 200 + 2000
    session.vars["totals"] = {"calls": 0}
    session.vars["apart[0]"] = 7
    sh("ebpf-magic workload file --count 100")
    session.stop()
    assert session.vars["apart"].tolist() == [7, 300, 0]
    rows = session.vars.df()
    assert rows.loc[["neighbour", "totals.calls", "factor"], "value"].tolist() == [300, 2000, 10]
    assert rows.loc["step", ["section", "writable"]].tolist() == [".rodata", False]
    return "300 opens, steps of 2 and 20"
