"""Programs that may be left out, and programs that others call."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import rights
from working import told

import ebpf_magic as em
from ebpf_magic.errors import (
    AttachError,
    EbpfMagicError,
    GuardError,
    MapError,
    StoppedError,
    UsageError,
    VerifierError,
)
from ebpf_magic.session import Session

pytestmark = [pytest.mark.live, pytest.mark.any_host]

WORK = "python3 -I -S -c 'import os; print(os.getpid()); [os.getppid() for _ in range(23)]'"
GETPPID = 'SEC("tracepoint/syscalls/sys_enter_getppid")'


@pytest.fixture(autouse=True)
def stop_all() -> Iterator[None]:
    yield
    em.stop_all()


def run(cell: str, name: str = "cell", **options: object) -> Session:
    session = em.run(cell, name=name, on=rights.host_name(), **options)
    assert isinstance(session, Session)
    return session


def work(session: Session) -> int:
    """Call getppid() 23 times; the process that did."""
    return int(told(session.agent_host, WORK))


# --optional

MIXED = f"""HASH(calls, u32, u64);
{GETPPID} int good(void *ctx) {{ COUNT(calls, PID()); return 0; }}
SEC("fentry/em_no_such_function") int no_target(void *ctx) {{ return 0; }}
SEC("uprobe/em-no-such-file:f") int no_file(void *ctx) {{ return 0; }}
{GETPPID} int refused(void *ctx) {{ return *(int *)bpf_get_current_task(); }}
"""
OTHERS = ["no_target", "no_file", "refused"]


@pytest.mark.needs("BTF")
def test_what_cannot_be_loaded_or_attached_is_left_out_and_the_rest_goes_on() -> None:
    session = run(MIXED, optional=OTHERS)
    pid = work(session)
    assert session.maps["calls"].df()["value"][pid] == 23
    said = {note.partition(" ")[0]: note for note in session.warnings}
    assert said.keys() == set(OTHERS)
    assert all(f"{name} is left out, as --optional allows: " in note for name, note in said.items())
    assert "the kernel's BTF has no such function" in said["no_target"]
    assert "no such file: em-no-such-file" in said["no_file"]
    assert "invalid mem access" in said["refused"]
    assert not {"no_target", "refused"} & set(session.programs.index)
    assert session.programs.loc["no_file", "target"] == ""


@pytest.mark.needs("BTF")
@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_optional_stops_all(name: str) -> None:
    with pytest.raises(EbpfMagicError) as caught:
        run(MIXED, optional=[other for other in OTHERS if other != name])
    assert caught.value.program == name
    assert em.sessions() == []


def test_when_nothing_is_left_the_first_reason_is_raised() -> None:
    with pytest.raises(VerifierError, match="line 1"):
        run(f"{GETPPID} int f(void *ctx) {{ return *(int *)bpf_get_current_task(); }}", optional=["f"])
    with pytest.raises(AttachError, match="no such file"):
        run('SEC("uprobe/em-no-such-file:f") int f(void *ctx) { return 0; }', optional=["f"])


def test_an_optional_program_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="--optional goood: no such program") as caught:
        run(f"{GETPPID} int good(void *ctx) {{ return 0; }}", optional=["goood"])
    assert caught.value.near == ["good"]
    with pytest.raises(UsageError, match="is to be a list of texts"):
        run(f"{GETPPID} int good(void *ctx) {{ return 0; }}", optional="good")


def test_what_the_guard_forbids_is_not_left_out_in_silence() -> None:
    cell = f'{GETPPID} int good(void *ctx) {{ return 0; }}\nSEC("xdp") int changes(void *ctx) {{ return 2; }}\n'
    if run(f"{GETPPID} int good(void *ctx) {{ return 0; }}").agent_host.may_change:
        return
    with pytest.raises(GuardError, match="--allow-change"):
        run(cell, optional=["changes"])


# Tail calls

JUMP = f"""HASH(steps, u32, u64);
struct {{
    __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
    __uint(max_entries, 4);
    __uint(key_size, 4);
    __uint(value_size, 4);
}} jump SEC(".maps");
{GETPPID} int first(void *ctx) {{ bpf_tail_call(ctx, &jump, 2); COUNT(steps, PID()); return 0; }}
SEC("tracepoint") int second(void *ctx) {{ ADD(steps, PID(), 100); return 0; }}
SEC("raw_tp/sys_exit") int other(void *ctx) {{ return 0; }}
"""


def test_a_program_without_a_target_is_only_called() -> None:
    session = run(JUMP)
    assert session.programs["target"].to_dict() == {
        "first": "syscalls/sys_enter_getppid",
        "second": "",
        "other": "sys_exit",
    }
    steps = session.maps["steps"]
    before = work(session)
    session.maps["jump"].update({2: "second"})
    after = work(session)
    session.maps["jump"].delete([2])
    again = work(session)
    found = steps.df()["value"]
    assert [found[before], found[after], found[again]] == [23, 2300, 23]


def test_no_program_stays_behind_in_the_array() -> None:
    session = run(JUMP, name="jumps")
    session.maps["jump"].update({0: "first", 1: "second"})  # first calls through the array that it stands in
    again = run(JUMP, name="jumps", keep_maps=True)
    pid = work(again)
    assert again.maps["steps"].df()["value"][pid] == 23
    again.maps["jump"].update({1: "second"})


@pytest.mark.parametrize(
    ("entries", "error", "text"),
    [
        ({2: "secnd"}, UsageError, "program 'secnd': no such program"),
        ({4: "second"}, UsageError, "4 is no index of it: it has 4 entries"),
        ({-1: "second"}, UsageError, "-1 is no index of it"),
        ({0: "other"}, MapError, "takes programs of one kind"),
        ({0: 7}, UsageError, "filled by names of programs"),
        ([1], UsageError, "is to be a DataFrame or a mapping"),
    ],
)
def test_what_an_array_of_programs_does_not_take(entries: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        run(JUMP).maps["jump"].update(entries)  # type: ignore[arg-type]


def test_other_maps_take_no_programs() -> None:
    session = run(JUMP)
    with pytest.raises(UsageError, match="a hash is written from a DataFrame"):
        session.maps["steps"].update({0: "first"})
    session.stop()
    with pytest.raises(StoppedError):
        session.maps["jump"].update({0: "second"})


def test_alone_a_program_without_a_target_is_refused_as_ever() -> None:
    with pytest.raises(AttachError, match="its section names no target"):
        run('SEC("tracepoint") int f(void *ctx) { return 0; }')
