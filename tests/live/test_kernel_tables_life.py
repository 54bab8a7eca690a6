"""The ready-made tables when the agent that had them is gone."""

from __future__ import annotations

import pytest
import rights

import ebpf_magic as em
from ebpf_magic.hosts import registry

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
