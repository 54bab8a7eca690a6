"""Pinned maps: they outlive their session where people see the pin, are found again, and are never taken for others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import rights

import ebpf_magic as em
from ebpf_magic.card import CardFeed
from ebpf_magic.errors import KernelError, LoadError, MapError, StoppedError, UsageError
from ebpf_magic.session import Session

pytestmark = pytest.mark.live
ROOT = Path(em.__file__).parent.parent
PINNED = """
struct {{
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, {entries});
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, u32);
	__type(value, u64);
}} em_pinned SEC(".maps");
SEC("syscall") int put(void *ctx)
{{
	u32 key = {key};
	u64 value = 7;

	return bpf_map_update_elem(&em_pinned, &key, &value, 0);
}}
"""


@pytest.fixture(autouse=True)
def stop_all() -> Iterator[None]:
    yield
    em.stop_all()


def start(key: int = 1, entries: int = 8) -> Session:
    session = em.run(PINNED.format(key=key, entries=entries), name="pinned", on=rights.host_name())
    assert isinstance(session, Session)
    return session


@pytest.mark.any_host
def test_a_pinned_map_is_found_again() -> None:
    session = start()
    try:
        assert session.maps["em_pinned"].pin_path == "/sys/fs/bpf/em_pinned"
        notes = [row["note"] for row in CardFeed(session).state()["maps"]]
        assert notes == ["pinned at /sys/fs/bpf/em_pinned: it outlives the session"]
        session.run("put")
        first = session.maps["em_pinned"].info["id"]
        session.stop()
        session = start(key=2)
        session.run("put")
        assert session.maps["em_pinned"].info["id"] == first
        assert session.maps["em_pinned"].df()["value"].to_dict() == {1: 7, 2: 7}
        with pytest.raises(LoadError) as caught:
            em.run(PINNED.format(key=1, entries=16), name="other", on=rights.host_name())
        assert str(caught.value) == (
            "load map em_pinned: the map that is pinned at /sys/fs/bpf/em_pinned is another: hash, key 4, "
            "value 8 bytes, 8 entries; declared is hash, key 4, value 8 bytes, 16 entries\n"
            "Declare it so, or remove the pin: sudo rm /sys/fs/bpf/em_pinned"
        )
    finally:
        session.maps["em_pinned"].unpin()
    with pytest.raises(UsageError, match="it is not pinned"):
        session.maps["em_pinned"].unpin()


@pytest.mark.any_host
def test_a_map_is_pinned_and_unpinned_by_hand() -> None:
    session = em.run(
        'HASH(counts, u32, u64); SEC("syscall") int p(void *c) { return 0; }', name="s", on=rights.host_name()
    )
    counts = session.maps["counts"]
    assert counts.pin("/sys/fs/bpf/em_by_hand") == counts.pin_path == "/sys/fs/bpf/em_by_hand"
    try:
        with em.map(pin="/sys/fs/bpf/em_by_hand", on=session.host) as found:
            assert found.info["id"] == counts.info["id"]
            assert found.pin_path == "/sys/fs/bpf/em_by_hand"
        with pytest.raises(MapError, match="something is pinned there already"):
            counts.pin("/sys/fs/bpf/em_by_hand")
        with pytest.raises(MapError, match=r"nothing is pinned there \(near: em_by_hand\)"):
            em.map(pin="/sys/fs/bpf/em_by_hands", on=session.host)
    finally:
        counts.unpin()
    with pytest.raises(UsageError, match="an absolute path"):
        counts.pin("counts")
    with pytest.raises(MapError, match="/tmp is no folder of a bpffs"):
        counts.pin("/tmp/counts")
    session.stop()
    with pytest.raises(StoppedError):
        counts.pin()


def test_a_pin_that_was_taken_by_another_is_left_alone() -> None:
    session = em.run(
        'HASH(a, u32, u64); HASH(b, u32, u64); SEC("syscall") int p(void *c) { return 0; }',
        name="s",
        on=rights.host_name(),
    )
    first, second = session.maps["a"], session.maps["b"]
    first.pin("/sys/fs/bpf/em_taken")
    with em.map(pin="/sys/fs/bpf/em_taken", on=session.host) as found:
        found.unpin()
    second.pin("/sys/fs/bpf/em_taken")
    with pytest.raises(KernelError, match=f"map {second.info['id']} is pinned there, and this one is map"):
        first.unpin()
    second.unpin()


def test_where_no_bpffs_is_mounted_it_is_said() -> None:
    session = start()
    said = [warning for warning in session.warnings if "goes with it" in warning and "sudo mount -t bpf" in warning]
    assert len(said) == (0 if Path("/sys/fs/bpf").is_mount() else 1)
    session.maps["em_pinned"].unpin()


SEEN = """
import subprocess
import ebpf_magic as em
session = em.run({source!r}, name="pinned")
session.run("put")
assert session.warnings == [], session.warnings
session.stop()
from ebpf_magic.hosts import registry
registry.close_all()
print(subprocess.run([*{prefix!r}, "ls", "/sys/fs/bpf"], capture_output=True, text=True).stdout)
with em.map(pin="/sys/fs/bpf/em_pinned") as found:
    print(found.df()["value"].to_dict())
    found.unpin()
print(subprocess.run([*{prefix!r}, "ls", "/sys/fs/bpf"], capture_output=True, text=True).stdout)
"""


PROGRAM_THERE = """
import sys
sys.path.insert(0, {package!r})
from agent import bpf, kinds, programs
from agent.libbpf import Library
bpf.pin(programs.load_empty(Library(), kinds.TRACEPOINT), "/sys/fs/bpf/em_pinned")
sys.path[0] = {root!r}
import ebpf_magic as em
run = lambda: em.run({source!r}, name="pinned", on="local")
for call in (run, lambda: em.map(pin="/sys/fs/bpf/em_pinned", on="local")):
    try:
        call()
    except em.EbpfMagicError as error:
        print(error)
"""


def test_a_program_where_a_map_is_to_be_pinned_is_said() -> None:
    source = PINNED.format(key=1, entries=8)
    script = PROGRAM_THERE.format(package=str(ROOT / "ebpf_magic"), root=str(ROOT), source=source)
    inner = ["sh", "-c", 'mount -t bpf bpf /sys/fs/bpf && exec "$@"', "sh", sys.executable, "-c", script]
    done = subprocess.run(
        [*rights.prefix(), "unshare", "--mount", *inner], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "load map em_pinned: what is pinned at /sys/fs/bpf/em_pinned is no map",
        "Remove it: sudo rm /sys/fs/bpf/em_pinned",
        "open the map pinned at /sys/fs/bpf/em_pinned: what is pinned there is no map",
    ]


def test_where_people_see_the_pin_it_outlives_the_agent() -> None:
    # In a mount namespace of its own, so that this machine keeps its mounts.
    script = SEEN.format(source=PINNED.format(key=1, entries=8), prefix=rights.prefix())
    user = [] if not rights.prefix() else ["setpriv", f"--reuid={os.getuid()}", "--clear-groups"]
    inner = ["sh", "-c", 'mount -t bpf bpf /sys/fs/bpf && exec "$@"', "sh", *user, sys.executable, "-c", script]
    done = subprocess.run(
        [*rights.prefix(), "unshare", "--mount", *inner], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    before, _, after = done.stdout.partition("{1: 7}")
    assert "em_pinned" in before.split()
    assert "em_pinned" not in after
