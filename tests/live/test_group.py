"""One cell on several hosts: here two agents on one kernel, each with programs and maps of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import rights
from objects import eventually

import ebpf_magic as em
from ebpf_magic import starting
from ebpf_magic.errors import AttachError, NoSuchNameError, UsageError
from ebpf_magic.group import Group
from ebpf_magic.hosts import registry

pytestmark = pytest.mark.live

CELL = """
HASH(counts, u32, u64);
HIST(sizes, "bytes");
SEC("tracepoint/syscalls/sys_enter_getppid")
int on_getppid(void *ctx) { COUNT(counts, PID()); OBSERVE(sizes, 100); return 0; }
"""
HOSTS = ["one", "two"]


@pytest.fixture(autouse=True)
def two_hosts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in HOSTS:
        monkeypatch.setitem(registry._MAKERS, name, lambda name=name: _named(name))
    yield
    em.stop_all()
    registry.close_all()


def _named(name: str) -> object:
    host = rights.start()
    host.name = name
    return host


def run(source: str = CELL, **options: object) -> Group:
    found = em.run(source, name="both", on=HOSTS, **options)
    assert isinstance(found, Group)
    return found


def test_frames_have_a_level_host() -> None:
    with run() as group:
        for _ in range(7):
            os.getppid()
        frame = group.maps["counts"].df()
        assert list(frame.index.names) == ["host", "key"]
        assert frame.xs(os.getpid(), level="key")["value"].to_dict() == {"one": 7, "two": 7}
        assert set(frame.attrs["by_host"]) == set(HOSTS)
        assert list(group.programs.index.names) == ["host", "name"]
        assert (group.stats()["runs"] >= 7).all()
        percentiles = group.maps["sizes"].percentiles([50])
        assert percentiles.index.tolist() == [("one", 50.0), ("two", 50.0)]
        assert abs(percentiles["value_bytes"] - 100).max() <= percentiles["error_bytes"].max()
        assert group["two"].maps["counts"].df().loc[os.getpid(), "value"] == 7
    assert group.state == "stopped"
    assert group.maps["counts"].df().xs(os.getpid(), level="key")["value"].to_dict() == {"one": 7, "two": 7}


def test_variables_are_read_by_host_and_written_on_all() -> None:
    source = 'volatile u32 step = 1;\nSEC("tracepoint/syscalls/sys_enter_getppid") int f(void *ctx) { return step; }'
    with run(source, set={"step": 2}) as group:
        assert group.vars["step"] == {"one": 2, "two": 2}
        group["two"].vars["step"] = 3
        assert group.vars.df()["value"].to_dict() == {("one", "step"): 2, ("two", "step"): 3}
        group.vars["step"] = 4
        assert group.vars["step"] == {"one": 4, "two": 4}


def test_it_is_one_session_by_name() -> None:
    group = run()
    assert em.sessions() == [group]
    again = run(keep_maps=True)
    assert group.state == "stopped"
    assert em.sessions() == [again]
    assert again.swap_ns is not None
    single = em.run(CELL, name="both", on="one")
    assert again.state == "stopped"
    assert em.sessions() == [single]
    em.stop_all()
    assert em.sessions() == []


def test_kept_maps_go_on_from_each_hosts_own() -> None:
    group = run()
    os.getppid()
    before = group.maps["counts"].df().xs(os.getpid(), level="key")["value"]
    again = run(keep_maps=True)
    os.getppid()
    after = again.maps["counts"].df().xs(os.getpid(), level="key")["value"]
    assert (after > before).all()


def test_where_it_fails_on_one_it_stays_on_none(monkeypatch: pytest.MonkeyPatch) -> None:
    real = registry.get("two").attach

    def refuse(session: str, targets: object, replaces: str = "") -> object:
        raise AttachError("attach it", "no such thing")

    monkeypatch.setattr(registry.get("two"), "attach", refuse)
    with pytest.raises(AttachError, match="on two: attach it: no such thing"):
        run()
    assert em.sessions() == []
    assert registry.get("one").status()["sessions"] == registry.get("two").status()["sessions"] == {}
    monkeypatch.setattr(registry.get("two"), "attach", real)
    assert run().state == "running"


def test_an_interrupt_leaves_it_on_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(futures: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(starting, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert em.sessions() == []
    hosts = [registry.get(name) for name in HOSTS]
    time.sleep(0.5)
    assert eventually(lambda: not any(host.status()["sessions"] for host in hosts))


def test_one_host_that_dies_leaves_the_other() -> None:
    group = run()
    rights.kill(registry.get("two").info.pid, 9)
    assert eventually(lambda: group["two"].state == "failed")
    assert (group.state, group["one"].state) == ("failed", "running")
    os.getppid()
    assert group["one"].maps["counts"].df().loc[os.getpid(), "value"] == 1
    ended: list[bool] = []
    group.on_end(lambda: ended.append(True))
    assert not ended
    group.stop()
    assert ended == [True]


def test_cards_and_views_of_each_host_as_text() -> None:
    group = run()
    live = group.maps["counts"].live(interval_s=0.05)
    os.getppid()
    text = live.text()
    assert "counts on one" in text
    assert "counts on two" in text
    live.start()
    time.sleep(0.2)
    group.stop()
    assert str(os.getpid()) in live.text()


@pytest.mark.parametrize(
    ("on", "why"), [([], "one host or several"), (["one", "one"], "twice"), ([3], "list of texts or hosts")]
)
def test_wrong_hosts(on: list[object], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        em.run(CELL, on=on)  # type: ignore[arg-type]


def test_two_names_of_one_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_auto", "two")
    with pytest.raises(UsageError, match="twice: auto is two, two is two"):
        em.run(CELL, on=["auto", "two"])
    assert registry.get("two").status()["sessions"] == {}


def test_it_ends_with_its_process() -> None:
    made = [
        "import sys",
        "import ebpf_magic as em",
        "from ebpf_magic.hosts import registry",
        "for name in ('one', 'two'):",
        "    def make(name=name):",
        "        host = registry._MAKERS[sys.argv[1]]()",
        "        host.name = name",
        "        return host",
        "    registry._MAKERS[name] = make",
        f"em.run({CELL!r}, name='both', on=['one', 'two'])",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(made), rights.host_name()], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_host_it_does_not_run_on() -> None:
    with run() as group, pytest.raises(NoSuchNameError, match="It runs on one, two"):
        group["three"]


@pytest.mark.needs("iter")
def test_an_iterator_is_read_on_each_host() -> None:
    group = run(
        'HASH(counts, u32, u64); SEC("iter/bpf_map") int held(struct bpf_iter__bpf_map *ctx)'
        '{ struct bpf_map *map = ctx->map; if (map) BPF_SEQ_PRINTF(ctx->meta->seq, "%u\\n", map->id); return 0; }'
    )
    frame = group.iter["held"].df()
    assert frame.index.names == ["host", None]
    for host in HOSTS:
        number = group[host].maps["counts"].handle.info.id
        assert str(number) in frame.loc[host]["line"].tolist()
        assert str(number) in group.iter["held"].text()[host].splitlines()
    assert "on one, two" in repr(group.iter["held"])
