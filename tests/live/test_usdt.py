"""Probes that Python brings along, in cells as a person writes them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import rights

import ebpf_magic as em
from ebpf_magic.errors import AttachError
from ebpf_magic.session import Session

pytestmark = [pytest.mark.live, pytest.mark.any_host, pytest.mark.needs("usdt")]

AUDITS = """import os, sys
print(os.getpid())
for _ in range(17): sys.audit("em.first")
for _ in range(23): sys.audit("em.other")
"""
EVENT = "struct event { u32 pid; char name[12]; };\nHASH(events, struct event, u64);\n"
COUNTED = """
{
    struct event event = { .pid = PID() };
    bpf_probe_read_user_str(event.name, sizeof(event.name), name);
    COUNT(events, event);
    return 0;
}
"""
SHORT = f'{EVENT}SEC("usdt/python3:python:audit") int BPF_USDT(f, const char *name){COUNTED}'
SLEEPS = f"""{EVENT}SEC("usdt.s/python3:python:audit") int f(struct pt_regs *ctx)
{{
    struct event event = {{ .pid = PID() }};
    long name;
    if (!bpf_usdt_arg(ctx, 0, &name) && !bpf_copy_from_user(event.name, 9, (void *)name))
        COUNT(events, event);
    return 0;
}}
"""
INCLUDES = """#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/usdt.bpf.h>
#include "ebpf_magic.h"
"""


@pytest.fixture(autouse=True)
def stop_all() -> Iterator[None]:
    yield
    em.stop_all()


def run(cell: str, **options: object) -> Session:
    session = em.run(cell, name="cell", on=rights.host_name(), **options)
    assert isinstance(session, Session)
    return session


def audits(session: Session) -> int:
    """Make 17 audit events of one name and 23 of another; the process that did."""
    said: list[str] = []
    session.agent_host.sh(f"/usr/bin/python3 -I -S -c '{AUDITS}'", on_output=said.append)
    return int("".join(said))


@pytest.mark.parametrize("cell", [SHORT, SLEEPS, INCLUDES + SHORT], ids=["short", "sleepable", "own includes"])
def test_arguments_of_a_probe_with_a_semaphore(cell: str) -> None:
    session = run(cell)
    pid = audits(session)
    events = session.maps["events"].df()["value"]
    assert (events[(pid, "em.first")], events[(pid, "em.other")]) == (17, 23)
    assert list(session.maps) == ["events"]  # and none that are libbpf's own
    assert session.programs.loc["f", "target"] == "python3:python:audit"


def test_a_target_by_option() -> None:
    session = run(SHORT.replace("usdt/python3:python:audit", "usdt"), attach={"f": "usdt:python3:python:audit"})
    pid = audits(session)
    assert session.maps["events"].df()["value"][(pid, "em.other")] == 23


def test_many_probes_go_at_the_same_time() -> None:
    names = ("audit", "gc__start", "gc__done", "import__find__load__start", "import__find__load__done")
    cell = "".join(f'SEC("usdt/python3:python:{name}") int f_{name}(void *ctx) {{ return 0; }}\n' for name in names)
    for _ in range(5):
        session = run(cell)
        assert (session.programs["target"] != "").all()
        session.stop()
        assert session.warnings == []


def test_a_probe_that_is_not_there_names_near_ones() -> None:
    with pytest.raises(AttachError, match="no such USDT probe") as caught:
        run(SHORT.replace("python:audit", "python:audits"))
    assert "python:audit" in caught.value.near
