"""Objects of Rust: of rustc, with maps, sections and variables as aya's macros make them; see tests/unit/data/rust."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import rights

import ebpf_magic as em
from ebpf_magic.errors import AttachError, UnsupportedError
from ebpf_magic.session import Session

pytestmark = [pytest.mark.live, pytest.mark.any_host, pytest.mark.needs("uprobe", "xdp", "tc")]
RUST = Path(__file__).parents[1] / "unit" / "data" / "rust"
CALLS = "python3 -c 'import os; print(os.getpid()); [os.getppid() for _ in range(40)]'"
TARGETS = {"on_call": "syscalls/sys_enter_getppid", "on_function": "libc.so.6:getppid"}
STEP = 3


@pytest.fixture(params=["counts.bpf.o", "counts_btf.bpf.o"])
def path(request: pytest.FixtureRequest) -> Path:
    return RUST / request.param


def load(path: Path) -> Session:
    step: Any = STEP if "btf" in path.name else STEP.to_bytes(8, "little")
    session = em.load_object(
        path,
        "rust",
        on=rights.host_name(),
        attach=TARGETS,
        set={"STEP": step},
        optional=["on_packet", "on_frame"],  # no target: they are run by hand
        allow_change=True,
    )
    assert isinstance(session, Session)
    assert session.vars["STEP"] == step
    return session


def total(session: Session, slot: int) -> int:
    """Sum of a slot over the CPUs: bytes, of which nobody knows that they are a number, are not added up."""
    values = session.maps["TOTALS"].df(per_cpu=True).loc[slot, "value"]
    return sum(int.from_bytes(value, "little") if isinstance(value, bytes) else int(value) for value in values)


def test_calls_are_counted_by_a_tracepoint_and_a_uprobe(path: Path) -> None:
    said: list[str] = []
    with load(path) as session:
        session.agent_host.sh(CALLS, on_output=said.append)
        pid = int("".join(said))
        calls = session.maps["CALLS"].df()
        assert total(session, 0) >= 2 * 40 * STEP  # others may call it, too
        assert total(session, 1) == 0
        with pytest.raises(UnsupportedError, match="read map AYA_LOGS"):
            session.maps["AYA_LOGS"].df()
    if "btf" in path.name:
        found = calls.loc[pid]
        assert (found["count"], found["last"]) == (2 * 40 * STEP, pid)
        assert bytes(found[f"name[{place}]"] for place in range(7)) == b"python3"
    else:
        found = calls.loc[pid.to_bytes(4, "little"), "value"]
        assert found[:20] == (2 * 40 * STEP).to_bytes(8, "little") + pid.to_bytes(4, "little") + b"python3\0"


def test_packets_have_the_verdicts_of_rust_s_match(path: Path) -> None:
    kinds = {"XDP_PASS": b"\x08\x00", "XDP_DROP": b"\x86\xdd"}
    wanted = [["XDP_PASS", "XDP_DROP"][number % 5 > 2] for number in range(100)]
    packets = pd.DataFrame({"wanted": wanted, "data": [bytes(12) + kinds[each] + bytes(46) for each in wanted]})
    with load(path) as session:
        found = session.run("on_packet", data=packets)
        assert total(session, 1) == 100 * STEP
    assert found["verdict"].tolist() == wanted
    assert wanted.count("XDP_PASS") == 60


def test_a_bare_section_asks_for_its_target(path: Path) -> None:
    with pytest.raises(AttachError, match=r'on_call, SEC\("tracepoint"\): its section names no target') as caught:
        em.load_object(path, "rust", on=rights.host_name(), allow_change=True)
    assert "--attach on_call=" in caught.value.hint
    assert em.sessions() == []
