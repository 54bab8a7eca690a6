"""What live tests share: a host in both ways of reading maps, and the proof that nothing stays behind."""

from __future__ import annotations

import functools
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator

import pytest
import rights
from IPython.core.interactiveshell import InteractiveShell

from ebpf_magic.agent import bpf
from ebpf_magic.hosts.base import AgentHost

_PATIENCE_S = 60.0
_AGENT = b"from agent.__main__ import main"


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    """A plain IPython with the extension loaded."""
    made = InteractiveShell.instance()
    made.run_line_magic("load_ext", "ebpf_magic")
    yield made
    made.run_line_magic("unload_ext", "ebpf_magic")
    InteractiveShell.clear_instance()


# Out of a guest no descriptor can be passed.
@pytest.fixture(params=[False] if rights.IN_VM else [True, False], ids=lambda pass_fds: "fds" if pass_fds else "bytes")
def agent_host(request: pytest.FixtureRequest, start_host: Callable[..., AgentHost]) -> AgentHost:
    """A host with an agent of its own; maps are read through descriptors, and through the agent."""
    return start_host(pass_fds=request.param)


@pytest.fixture
def start_host() -> Iterator[Callable[..., AgentHost]]:
    """Start hosts that end with the test."""
    started: list[AgentHost] = []

    def start(pass_fds: bool = True) -> AgentHost:
        started.append(rights.start(pass_fds))
        return started[-1]

    yield start
    for host in started:
        if rights.IN_VM:
            for session in host.status()["sessions"]:
                host.close_session(session)
        else:
            host.close()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a feature that this kernel does not have."""
    for mark in item.iter_markers("needs"):
        for feature in mark.args:
            if feature in rights.lacks():
                pytest.skip(f"this kernel lacks {feature}: {rights.lacks()[feature]}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a guest, keep what makes its work there."""
    if rights.IN_VM:
        left = [item for item in items if not item.get_closest_marker("any_host")]
        items[:] = [item for item in items if item.get_closest_marker("any_host")]
        config.hook.pytest_deselected(items=left)


@pytest.fixture(scope="session", autouse=True)
def witness_ends() -> Iterator[None]:
    yield
    rights.end_witness()


@pytest.fixture(autouse=True)
def nothing_stays_behind() -> Iterator[None]:
    """Hold every live test to this: no program, map, link, descriptor or agent of ours is there when it is over."""
    _close_registry()
    before = _ours()
    yield
    _close_registry()
    deadline = time.monotonic() + _PATIENCE_S
    while (left := _ours() - before) and time.monotonic() < deadline:
        time.sleep(0.05)  # the kernel frees after a grace period
    assert not left, f"stayed behind: {sorted(left)}"


def _close_registry() -> None:
    registry = sys.modules.get("ebpf_magic.hosts.registry")
    if registry is not None and not rights.IN_VM:
        registry.close_all()


def _ours() -> set[str]:
    """Everything of ours, as text: kernel objects that no stranger holds, BPF descriptors and sockets, agents."""
    gc.collect()
    return _kernel_objects() | _descriptors() | {f"agent process {pid}" for pid in _agents()}


def _kernel_objects() -> set[str]:
    """Programs, maps and links, but for those that another process holds (other tests may run on this machine)."""
    family = _family()
    objects = rights.list_kernel()
    found = set()
    for what in ("programs", "maps"):
        for row in objects[what]:
            # What systemd and container runtimes attach to cgroups, at any time, is held by no process either.
            is_strange = not row["name"] or row["name"].startswith("sd_")
            held = any(pid in family for pid, _ in row["pids"]) or not (row["pids"] or is_strange)
            if held and (what, row["id"]) not in _there_at_first():
                found.add(f"{what[:-1]} {row['id']} {row['name']}")
    return found | _links(family)


@functools.cache
def _there_at_first() -> frozenset[tuple[str, int]]:
    """What was in the kernel before the first test: held by a stranger's look at times, at others by nobody."""
    objects = rights.list_kernel()
    return frozenset((what, row["id"]) for what in ("programs", "maps") for row in objects[what])


def _links(family: set[int]) -> set[str]:
    owners = {number: pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) for number in _link_ids(pid)}
    found: set[str] = set()
    number: int | None = 0
    try:
        while (number := bpf.next_id(bpf.LINK_GET_NEXT_ID, number or 0)) is not None:
            if owners.get(number) is None or owners[number] in family:
                found.add(f"link {number}")
    except PermissionError:  # a plain user: a link that stayed holds its program, and that is listed
        return set()
    return found


def _link_ids(pid: int) -> list[int]:
    numbers = []
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            if os.readlink(f"/proc/{pid}/fd/{fd}").startswith("anon_inode:bpf"):
                with open(f"/proc/{pid}/fdinfo/{fd}") as lines:
                    numbers += [int(line.split()[1]) for line in lines if line.startswith("link_id:")]
    except OSError:  # it ended meanwhile
        pass
    return numbers


def _descriptors() -> set[str]:
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:  # the listing's own
            continue
        if target.startswith(("anon_inode:bpf", "socket:")) or target.endswith("(deleted)"):
            found.add(f"descriptor {fd} {target}")
    return found


def _family() -> set[int]:
    """This process, its children, and their children."""
    parents = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            with open(f"/proc/{pid}/stat") as text:
                parents[pid] = int(text.read().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
    family = {os.getpid()}
    while True:
        more = {pid for pid, parent in parents.items() if parent in family} - family
        if not more:
            return family
        family |= more


def _agents() -> set[int]:
    found = set()
    for pid in _family():
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as text:
                if _AGENT in text.read():
                    found.add(pid)
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
    return found
