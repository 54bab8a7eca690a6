"""A function of a running program, replaced by another session's program."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import rights
from working import told

import ebpf_magic as em
from ebpf_magic.errors import AttachError, EbpfMagicError
from ebpf_magic.session import Session

pytestmark = [pytest.mark.live, pytest.mark.any_host, pytest.mark.needs("freplace")]

GETPPID = 'SEC("tracepoint/syscalls/sys_enter_getppid")'
TARGET = f"""HASH(sums, u32, u64);
__noinline int weight(u32 pid) {{ volatile int one = 1; return pid ? one : 0; }}
static __noinline int fixed(u32 pid) {{ volatile int two = 2; return pid ? two : 0; }}
{GETPPID} int on_call(void *ctx) {{ u32 pid = PID(); ADD(sums, pid, weight(pid) + fixed(pid)); return 0; }}
"""
NEW = 'SEC("freplace") int new(u32 pid) { return pid ? 5 : 0; }'
WORK = "python3 -I -S -c 'import os; print(os.getpid()); [os.getppid() for _ in range(23)]'"


@pytest.fixture(autouse=True)
def stop_all() -> Iterator[None]:
    yield
    em.stop_all()


def run(cell: str, name: str, **options: object) -> Session:
    session = em.run(cell, name=name, on=rights.host_name(), allow_change=True, **options)
    assert isinstance(session, Session)
    return session


def added(session: Session) -> int:
    """Call getppid() 23 times; what that added."""
    pid = int(told(session.agent_host, WORK))
    return int(session.maps["sums"].df()["value"][pid])


@pytest.mark.parametrize(
    ("section", "target"),
    [("freplace", "target:weight"), ("freplace", "freplace:target:weight"), ("freplace/target:weight", None)],
)
def test_it_takes_the_place_from_attach_to_stop(section: str, target: str | None) -> None:
    target_session = run(TARGET, "target")
    assert added(target_session) == 23 * 3
    new = run(NEW.replace("freplace", section), "new", attach={"new": target} if target else None)
    assert new.programs.loc["new", "target"] == "target:weight"
    assert added(target_session) == 23 * 7
    new.stop()
    assert added(target_session) == 23 * 3


def test_the_replaced_session_may_stop_first() -> None:
    target_session = run(TARGET, "target")
    new = run(NEW, "new", attach={"new": "target:weight"})
    target_session.stop()
    assert new.state == "running"
    new.stop()


@pytest.mark.parametrize(
    ("cell", "target", "text", "near"),
    [
        (NEW, "targt:weight", "no session targt is running", "target"),
        (NEW, "target:wieght", "the programs of target have no function of that name", "weight"),
        (NEW, "target:fixed", "Only a global function can be replaced: take `static` away there.", ""),
        (NEW.replace("u32 pid", "u32 pid, u32 more"), "target:weight", "the arguments and the return type", ""),
        (NEW, "weight", "is written SESSION:FUNCTION", ""),
        (NEW, None, "--attach new=SESSION:FUNCTION", ""),
    ],
)
def test_what_cannot_be_replaced(cell: str, target: str | None, text: str, near: str) -> None:
    run(TARGET, "target")
    with pytest.raises(AttachError) as caught:
        run(cell, "new", attach={"new": target} if target else None)
    assert text in str(caught.value)
    assert near in caught.value.near or not near
    assert caught.value.program == "new"
    assert [session.name for session in em.sessions()] == ["target"]


def test_a_place_that_is_taken() -> None:
    run(TARGET, "target")
    run(NEW, "new", attach={"new": "target:weight"})
    with pytest.raises(EbpfMagicError, match="another program has taken the place"):
        run(NEW, "other", attach={"new": "target:weight"})
