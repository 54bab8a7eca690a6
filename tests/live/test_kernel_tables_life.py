"""The ready-made tables when the agent that had them is gone."""

from __future__ import annotations

import pytest
import rights

import ebpf_magic as em
from ebpf_magic import register
from ebpf_magic.errors import UsageError
from ebpf_magic.hosts import registry
from ebpf_magic.tools import unlisted

pytestmark = [pytest.mark.live, pytest.mark.needs("iter")]


def test_an_agent_that_ended_is_replaced_with_what_it_had() -> None:
    on = rights.host_name()
    assert len(em.tasks(on=on)) > 2
    registry.close_all()
    assert len(em.tasks(on=on)) > 2


def test_also_when_nobody_saw_that_it_died() -> None:
    on = rights.host_name()
    assert len(em.tasks(on=on)) > 2
    registry.get(on)._link.kill()
    with pytest.raises(em.EbpfMagicError, match="the agent is gone"):
        em.tasks(on=on)
    assert len(em.tasks(on=on)) > 2


def test_what_an_agent_that_ended_had_is_let_go_of() -> None:
    on = rights.host_name()
    em.tasks(on=on)
    before = unlisted.session("tasks", on)
    registry.get(on)._link.kill()
    with pytest.raises(em.EbpfMagicError, match="the agent is gone"):
        em.tasks(on=on)
    em.tasks(on=on)
    assert before.state != "running"
    assert before not in register._unlisted


def test_a_table_of_no_host_is_refused() -> None:
    with pytest.raises(UsageError, match="name one host or several"):
        em.tasks(on=[])
    with pytest.raises(UsageError, match="on is to be a text or a list of texts"):
        em.tasks(on=[7])  # type: ignore[list-item]
