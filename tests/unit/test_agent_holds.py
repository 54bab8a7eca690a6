"""How the agent lets go of what it holds, and keeps apart what is not the same; none of it needs a kernel."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ebpf_magic.agent import map_verbs, sessions, trace_log, tracefs, trial
from ebpf_magic.agent.agent import Agent
from ebpf_magic.agent.attach import Link, network
from ebpf_magic.agent.attach.handles import close_all
from ebpf_magic.agent.fault import Fault


class Hold:
    def __init__(self, error: OSError | None = None) -> None:
        self.error = error
        self.closed = False

    def close(self) -> None:
        self.closed = True
        if self.error:
            raise self.error


def test_one_that_cannot_be_let_go_of_keeps_no_other(capfd: pytest.CaptureFixture[str]) -> None:
    stuck = OSError(errno.EIO, "stuck")
    holds = [Hold(), *(Hold(stuck) for _ in range(4)), Hold()]
    close_all(holds)
    close_all([Hold(stuck)])
    assert all(hold.closed for hold in holds)
    assert capfd.readouterr().err.count("a Hold was not let go of: [Errno 5] stuck\n") == 5


def test_a_refused_mount_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracefs, "_own_namespace", False)
    monkeypatch.setattr(tracefs, "_people", -1)
    monkeypatch.setattr(tracefs, "_libc", SimpleNamespace(unshare=lambda flags: -1))
    before = os.listdir("/proc/self/fd")
    assert "a private mount is refused" in tracefs.mount("tracefs")
    assert os.listdir("/proc/self/fd") == before
    assert tracefs.seen_by_people("/x") == "/x"


def test_a_place_is_held_by_its_whole_name() -> None:
    session: Any = sessions.Session.__new__(sessions.Session)
    session._links = [Link("a", "syscalls/sys_enter_openat", "tracepoint", []), Link("b", "xdp:eth0", "xdp", [])]
    assert [session.holds(target) for target in ("eth0", "xdp:eth0", "syscalls/sys_enter_openat")] == [True] * 3
    assert [session.holds(target) for target in ("", None, "eth1")] == [False] * 3


def watched_session(closed: list[str], name: str, programs: list[Any]) -> Any:
    # No descriptor: the kernel refuses to tell of such a program.
    loaded: Any = SimpleNamespace(programs=programs, fd=lambda program: -1, close=lambda: closed.append(name))
    session = sessions.Session(name, loaded, 1.0, None, (), True)
    session.state = "attached"
    return session


def test_one_sessions_trouble_is_not_the_agents() -> None:
    closed: list[str] = []
    made = {
        "troubled": watched_session(closed, "troubled", [SimpleNamespace(name="p", kind="kprobe")]),
        "sound": watched_session(closed, "sound", []),
    }
    held = Agent.__new__(Agent)
    held._sessions, held._stats_fd, held._stats_problem = made, -1, "none here"
    held.tick()
    held.tick()
    assert closed == ["troubled"]
    assert (made["troubled"].state, made["troubled"].reason) == ("detached", "error")
    assert made["troubled"].message.startswith("stopped: the agent could not watch over it: ")
    assert [warning.split(":")[0] for warning in made["troubled"].warnings] == [
        "its last counters and log lines are not known"
    ]
    assert made["troubled"].stats()[1] == []
    assert made["sound"].state == "attached"


def test_a_log_that_someone_reads_keeps_no_map(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "instances").mkdir()
    log = trace_log.TraceLog.__new__(trace_log.TraceLog)
    log._folder, log._pipe = str(tmp_path / "instances"), -1
    (tmp_path / "instances" / "busy").touch()
    session = watched_session([], "printing", [])
    fd = os.open(os.devnull, os.O_RDONLY)
    session.state, session.log, session.maps = "detached", log, {"m1": SimpleNamespace(fd=fd)}
    session.close()
    assert f"{tmp_path}/instances stayed: " in capfd.readouterr().err
    assert not os.path.exists(f"/proc/self/fd/{fd}")


@pytest.mark.parametrize(
    ("kind", "name", "why"),
    [
        (29, "init", "a process is named by its id"),
        (29, str((1 << 32) + 1), "a process is named by its id"),
        (28, "/etc/hosts\0x", "a NUL"),
        (1, "/etc/hosts", "it is a hash"),
    ],
)
def test_owners_that_cannot_be(kind: int, name: str, why: str) -> None:
    item: Any = SimpleNamespace(
        name="m", fd=-1, info=SimpleNamespace(type_name=map_verbs.maps.TYPE_NAMES[kind], value_size=8)
    )
    verbs = map_verbs.MapVerbs(lambda handle: item, lambda: 1, 1, False)
    request: Any = SimpleNamespace(text=lambda key: name)
    with pytest.raises(Fault) as caught:
        verbs.verbs["lookup"](request)
    assert why in caught.value.fields["why"]


def test_a_pipe_is_no_network_namespace(tmp_path: Any) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert network._open(str(tmp_path / "pipe")) is None  # and nobody waits for its other end


def test_an_object_that_libbpf_reads_for_ever_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_PATIENCE_S", 1)

    def opens(address: int, size: int, options: None) -> int:
        while True:
            pass

    library: Any = SimpleNamespace(bpf_object__open_mem=opens)
    with pytest.raises(Fault) as caught:
        trial.open_in_child(library, memoryview(bytearray(b"x")), "endless")
    assert "(SIGALRM)" in caught.value.fields["why"]
