"""Cells on functions of the kernel, as a person writes them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import rights

import ebpf_magic as em
from ebpf_magic.errors import AttachError
from ebpf_magic.session import Session

pytestmark = [pytest.mark.live, pytest.mark.any_host]

SEED = Path(__file__).parents[3] / "shared" / "seed_programs" / "count_opens.bpf.c"
OPENS = 1000
# The shell itself opens each file, and no process is made.
OPEN = f"echo $$; i=0; while [ $i -lt {OPENS} ]; do : </etc/hostname; i=$((i+1)); done"
NOTHING = "echo $$; i=0; while [ $i -lt 0 ]; do : </etc/hostname; i=$((i+1)); done"


def opens(session: Session, command: str) -> int:
    """Run a command, and see how many files its shell opened by the session's map, whose key is the thread."""
    said: list[str] = []
    session.agent_host.sh(command, on_output=said.append)
    return int(session.maps["counter_map"].df()["value"].get(int("".join(said).split()[0]), 0))


@pytest.mark.needs("kprobe")
def test_the_sample_program_runs_as_it_is_and_counts_1000_opens_as_1000() -> None:
    if not SEED.exists():
        pytest.skip("shared/seed_programs is not beside this checkout")
    with em.run(SEED.read_text(), on=rights.host_name()) as session:
        of_its_own = opens(session, NOTHING)
        assert opens(session, OPEN) - of_its_own == OPENS


ARGUMENTS = {
    "kprobe": 'SEC("kprobe/do_sys_openat2") int BPF_KPROBE(f, int dfd) { COUNT(dfds, dfd); return 0; }',
    "kretprobe": 'SEC("kretprobe/do_sys_openat2") int BPF_KRETPROBE(f, int fd) { COUNT(dfds, fd); return 0; }',
    "fentry": 'SEC("fentry/do_sys_openat2") int BPF_PROG(f, int dfd) { COUNT(dfds, dfd); return 0; }',
    "fexit": 'SEC("fexit/do_sys_openat2")\n'
    "int BPF_PROG(f, int dfd, const char *name, struct open_how *how, int fd) { COUNT(dfds, fd); return 0; }",
}
AT_FDCWD, ENOENT = -100, 2


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.needs(kind)) for kind in ARGUMENTS])
def test_arguments_and_return_values(kind: str) -> None:
    """Of a file that is not there, do_sys_openat2 is given AT_FDCWD and returns -ENOENT."""
    with em.run(f"HASH(dfds, s32, u64);\n{ARGUMENTS[kind]}\n", on=rights.host_name()) as session:
        session.agent_host.sh("i=0; while [ $i -lt 100 ]; do true </no/such/file || i=$((i+1)); done 2>/dev/null")
        seen = session.maps["dfds"].df()["value"]
        assert seen[AT_FDCWD if kind in ("kprobe", "fentry") else -ENOENT] >= 100
        stats = session.stats().loc["f"]
        assert stats["runs"] >= 100
        assert stats["missed_runs"] == 0 or (kind.startswith("k") and math.isnan(stats["missed_runs"]))


@pytest.mark.needs("kprobe")
def test_a_cell_with_a_target_by_option() -> None:
    cell = 'HASH(n, u32, u64);\nSEC("kprobe") int f(void *ctx) { COUNT(n, 0); return 0; }\n'
    with em.run(cell, on=rights.host_name(), attach={"f": "do_sys_openat2"}) as session:
        session.agent_host.sh("cat /proc/uptime >/dev/null")
        assert session.maps["n"].df()["value"].sum() > 0


@pytest.mark.needs("BTF")
def test_no_such_function() -> None:
    with pytest.raises(AttachError, match="no such function") as caught:
        em.run('SEC("fentry/do_sys_opnat2") int f(void *ctx) { return 0; }', on=rights.host_name())
    assert "do_sys_openat2" in caught.value.near
    assert em.sessions() == []
