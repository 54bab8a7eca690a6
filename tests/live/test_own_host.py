"""A host of the user's own, such as `ebpf_magic.hosts.vm` gives: cells run on it, and its maker closes it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
import rights

import ebpf_magic as em
from ebpf_magic.errors import AgentError, UsageError
from ebpf_magic.group import Group
from ebpf_magic.hosts.base import AgentHost

pytestmark = pytest.mark.live

CELL = """
HASH(counts, u32, u64);
SEC("tracepoint/syscalls/sys_enter_getppid") int on_getppid(void *ctx) { COUNT(counts, PID()); return 0; }
"""


@pytest.fixture(autouse=True)
def stop_all() -> Iterator[None]:
    yield
    em.stop_all()


def test_a_cell_runs_on_it(start_host: Callable[..., AgentHost]) -> None:
    host = start_host()
    first = em.run(CELL, name="calls", on=host)
    os.getppid()
    again = em.run(CELL, name="calls", on=host, keep_maps=True)
    os.getppid()
    assert first.state == "stopped"
    assert again.agent_host is host
    assert again.maps["counts"].df().loc[os.getpid(), "value"] >= 2


def test_a_cell_runs_on_it_and_on_another_at_once(start_host: Callable[..., AgentHost]) -> None:
    host = start_host()
    host.name = "own"
    group = em.run(CELL, name="calls", on=[host, rights.host_name()])
    assert isinstance(group, Group)
    os.getppid()
    counts = group.maps["counts"].df().xs(os.getpid(), level="key")["value"].to_dict()
    assert counts == {"own": 1, rights.host_name(): 1}
    with pytest.raises(UsageError, match="twice"):
        em.run(CELL, on=[host, host])


def test_a_closed_one_says_so(start_host: Callable[..., AgentHost]) -> None:
    host = start_host()
    host.close()
    host.close()
    with pytest.raises(AgentError, match=r"the agent is gone: it was closed\n.*made anew") as caught:
        em.run(CELL, name="calls", on=host)
    assert "last words" not in str(caught.value)


def test_a_command_runs_where_it_is(start_host: Callable[..., AgentHost]) -> None:
    said: list[str] = []
    em.sh("echo here", on=start_host(), on_output=said.append)
    assert "".join(said) == "here\n"
