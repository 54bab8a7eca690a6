"""Cards and live views without a page: text in a plain IPython, and the data behind the card."""

from __future__ import annotations

import os

import pytest
import rights
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from objects import eventually

import ebpf_magic as em
from ebpf_magic.card import CardFeed
from ebpf_magic.display import ProgressLine
from ebpf_magic.hosts import registry

pytestmark = pytest.mark.live

PROBE = """
HASH(counts, u32, u64);
HASH(start, u32, u64);
HASH(tiny, u32, u64, 1);
HIST(latency, "ns");
SEC("tracepoint/syscalls/sys_enter_getppid") int enter(void *ctx) {
    COUNT(counts, TID());
    START(start, TID());
    COUNT(tiny, bpf_get_prandom_u32());
    return 0;
}
SEC("tracepoint/syscalls/sys_exit_getppid") int leave(void *ctx) {
    u64 ns = ELAPSED_NS(start, TID());
    if (ns) OBSERVE(latency, ns);
    return 0;
}
"""


def test_plain_ipython_shows_text_and_binds_the_name(shell: InteractiveShell) -> None:
    with capture_output() as shown:
        assert shell.run_cell(f"%%ebpf calls\n{PROBE}").success
    session = shell.user_ns["calls"]
    assert session.host == rights.host_name()
    assert f"calls: running, {session.host}, libbpf" in shown.stdout
    assert "program time (measured)" in shown.stdout
    for _ in range(23):
        os.getppid()
    with capture_output() as shown:
        shell.run_cell("calls.maps['latency'].live()")
        shell.run_cell("calls.maps['counts'].live()")
    assert "p99" in shown.stdout
    assert "23" in shown.stdout
    with capture_output() as shown:
        shell.run_line_magic("ebpf", "ls")
        assert shell.run_cell("%ebpf ls").result.loc["calls", "state"] == "running"
    everything = shell.run_line_magic("ebpf", "ls --all")
    assert everything.loc["program"]["name"].isin(["enter"]).any()
    assert everything.loc["map"]["name"].isin(["latency"]).any()
    assert everything["owner"].str.contains(f"({os.getpid()})", regex=False).any()
    shell.run_line_magic("ebpf", "stop calls")
    assert session.state == "stopped"
    assert "calls: stopped" in repr(session) or "stopped" in repr(session)


def test_quiet_shows_nothing_and_stop_all_stops(shell: InteractiveShell) -> None:
    with capture_output() as shown:
        shell.run_cell(f"%%ebpf one --quiet\n{PROBE}")
        shell.run_cell(f"%%ebpf two --quiet --no-attach\n{PROBE}")
    assert shown.stdout == ""
    assert len(em.sessions()) == 2
    shell.run_line_magic("ebpf", "stop --all")
    assert em.sessions() == []


def test_help_has_options_and_macros(shell: InteractiveShell) -> None:
    text = shell.find_cell_magic("ebpf").__doc__
    for word in ("--keep-maps", "--max-cpu", "doctor", "--kind", "--timeout", "HIST_BY(", "ELAPSED_NS("):
        assert word in text


def test_card_tells_cost_entries_and_losses() -> None:
    with em.run(PROBE, name="card") as session:
        feed = CardFeed(session)
        feed.state()
        for _ in range(100):
            os.getppid()
        state = feed.state()
        assert [stage["name"] for stage in state["stages"]] == ["compiled", "loaded", "attached"]
        assert all(stage["ms"] > 0 for stage in state["stages"])
        enter = state["programs"][0]
        assert enter["runs"] >= 100
        assert enter["runs_per_s"] > 0
        assert 0 < enter["cpu_share"] < 1
        assert enter["hook_ns_estimate"] is not None
        maps = {row["name"]: row for row in state["maps"]}
        assert set(maps) == {"counts", "start", "tiny", "latency"}
        # Entries are counted no more often than is cheap.
        assert eventually(lambda: {row["name"]: row["entries"] for row in feed.state()["maps"]}["counts"] >= 1)
        assert eventually(lambda: {row["name"]: row["entries"] for row in feed.state()["maps"]}["tiny"] == 1)
        assert maps["tiny"]["refused"] >= 99
        assert any("tiny" in words and "refused" in words for words in state["lost"])
        assert state["cost"]["program_share"] > 0
        assert state["cost"]["hook_share"] >= 0
    assert feed.state()["state"] == "stopped"
    assert feed.state()["programs"][0]["runs"] >= enter["runs"]


def test_lru_map_that_may_have_evicted_says_so() -> None:
    source = """
    LRU_HASH(recent, u32, u64, 1024);
    static long add(u32 i, void *ctx) { COUNT(recent, i); return 0; }
    SEC("syscall") int fill(void *ctx) { bpf_loop(4096, add, NULL, 0); return 0; }
    """
    with em.run(source) as session:
        session.run("fill")
        frame = session.maps["recent"].df()
        assert len(frame) <= 1024
        assert session.maps["recent"].may_have_evicted(len(frame))
        assert "evicted" in " ".join(session.maps["recent"].notes(len(frame)))
        assert "evicted" in session.maps["recent"].live().text()


@pytest.mark.parametrize("pass_fds", [True, False], ids=["fds", "bytes"])
def test_card_of_a_session_whose_agent_died(monkeypatch: pytest.MonkeyPatch, pass_fds: bool) -> None:
    """With descriptors the last contents are kept; without, as out of a guest, the card shows what was read before."""
    monkeypatch.setitem(registry._MAKERS, "mortal", lambda: rights.start(pass_fds))
    session = em.run(PROBE, name="calls", on="mortal")
    feed = CardFeed(session)
    os.getppid()
    before = feed.state()
    live = session.maps["counts"].live()
    live.text()
    rights.kill(session.agent_host.info.pid, 9)
    assert eventually(lambda: session.state == "failed")
    after = feed.state()
    assert after["state"] == "failed"
    # In a line each, also where the agent's last words are a kernel's whole panic; those are in the error's log.
    assert "the agent is gone" in after["message"]
    assert not any("\n" in text for text in [after["message"], *after["warnings"]])
    assert len(after["warnings"]) == (0 if pass_fds else 1)
    assert [row["entries"] for row in after["maps"]] >= [row["entries"] for row in before["maps"]]
    assert after["programs"][0]["runs"] == before["programs"][0]["runs"]
    assert session.lost() == session.lost()
    live.stop()


def test_progress_is_a_line_for_each_host(shell: InteractiveShell) -> None:
    with capture_output() as shown:
        line = ProgressLine()
        for text in ("vm:6.1: booting", "vm:6.12: booting", "vm:6.1: up"):
            line(text)
    assert shown.outputs[-1].data["text/plain"].splitlines() == ["vm:6.1: up", "vm:6.12: booting"]
