"""QEMU's command line, the choice between KVM and emulation, and a QEMU played by a shell script."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ebpf_magic.errors import NoHostError, NoKernelError, UsageError
from ebpf_magic.hosts import registry, vm
from ebpf_magic.hosts.guest import qemu
from ebpf_magic.hosts.guest.life import Life, Line
from ebpf_magic.hosts.guest.shares import Root, Share

GUEST = qemu.Guest(Path("/k,1/vmlinuz"), Root([Share("/usr"), Share("/a,b", True)]), 2, 512, 20, 21, 22, 23)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def after(words: list[str], option: str) -> list[str]:
    return [words[index + 1] for index, word in enumerate(words) if word == option]


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_guest_is_shut_in(machine: str) -> None:
    words = qemu.command("/usr/bin/qemu", GUEST, False, machine)
    assert after(words, "-sandbox") == ["on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
    assert after(words, "-nic") == ["none"]
    assert {"-no-user-config", "-nodefaults", "-no-reboot"} <= set(words)
    assert not {"-monitor", "-qmp", "-mon", "-netdev", "-s", "-gdb"} & set(words)
    shares = after(words, "-fsdev")
    assert len(shares) == 2
    assert all("readonly=on" in share for share in shares)
    assert "path=/a,,b,security_model" in shares[1]
    assert "panic=-1" in after(words, "-append")[0]
    assert not any("server" in word for word in after(words, "-chardev"))


def test_disks_are_read_only_or_nameless() -> None:
    image = qemu.Guest(Path("/k"), Root([], image="/disk,1.img"), 1, 512, 20, 21, 22, 23)
    root, scratch = after(qemu.command("qemu", image, False, "x86_64"), "-blockdev")
    assert "filename=/disk,,1.img,read-only=on" in root
    assert "filename=/dev/fdset/1" in scratch
    assert after(qemu.command("qemu", GUEST, True, "x86_64"), "-accel") == ["kvm"]


def test_a_missing_qemu_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(NoHostError, match=r"qemu-system-.* is not on the path\nInstall it: apt install qemu-system-"):
        qemu.find()


def test_another_architecture_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(NoHostError, match="riscv64 is not offered"):
        qemu.find()


def test_what_kvm_did_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "qemu-system-x86_64"
    fake.write_text("#!/bin/sh\n")
    fake.chmod(0o755)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(qemu, "_KVM", tmp_path / "kvm")
    assert qemu.acceleration() == "software emulation (there is no /dev/kvm)"
    (tmp_path / "kvm").touch()
    assert qemu.remembered() is None
    assert "tried" in qemu.acceleration()
    qemu.remember(False)
    assert qemu.remembered() is False
    assert "did not boot" in qemu.acceleration()
    qemu.remember(True)
    assert qemu.acceleration() == "kvm"
    monkeypatch.setattr("platform.release", lambda: "another kernel")
    assert qemu.remembered() is None


@pytest.mark.parametrize("cpus", [0, -1, 65])
def test_impossible_processors_are_refused(cpus: int) -> None:
    with pytest.raises(UsageError, match=f"guest with {cpus!r} processors: from 1 to 64 can be had"):
        vm("6.1", cpus)


@pytest.mark.parametrize("memory_mb", [0, -512, 16, 1 << 40])
def test_impossible_memory_is_refused(memory_mb: int) -> None:
    with pytest.raises(UsageError, match=f"guest with {memory_mb!r} MiB of memory: from [0-9]+ to [0-9,]+ can be had"):
        vm("6.1", 2, memory_mb)


@pytest.mark.parametrize("size", [1.5, "2", True, None])
def test_sizes_that_are_no_whole_numbers_are_refused(size: object) -> None:
    for name in ("cpus", "memory_mb"):
        with pytest.raises(UsageError, match=f"{name} is to be a whole number"):
            vm("6.1", **{name: size})  # type: ignore[arg-type]


def test_a_guest_does_not_get_more_memory_than_there_is() -> None:
    here_mb = int(Path("/proc/meminfo").read_text().split()[1]) >> 10
    with pytest.raises(UsageError, match=f"to {here_mb:,} can be had here"):
        vm("6.1", 2, here_mb + 1)


def test_a_small_machine_may_have_the_usual_guest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: 4096 if name == "SC_PAGE_SIZE" else 800 << 8)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(NoKernelError, match="fetched"):
        vm("6.0")
    with pytest.raises(UsageError, match="to 1,024 can be had"):
        vm("6.0", memory_mb=1025)


@pytest.mark.parametrize("name", ["vmm", "vm:", "vm6.1", "locl", ""])
def test_an_unknown_host_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no such host"):
        registry.get(name)


def life(script: str, *words: str) -> Life:
    """A life whose QEMU is a shell script; $agent and $console are its lines."""
    agent, console = Line(), Line()
    marks: list[str] = []
    text = f"agent=/proc/self/fd/{agent.theirs.fileno()}\n{script}"
    made = Life(["/bin/sh", "-c", text, "sh", *words], agent, console, [], lambda *mark: marks.append(mark[0]))
    made.seen = marks  # type: ignore[attr-defined]
    return made


def test_the_console_is_heard() -> None:
    one = life(
        'echo noise; echo "ebpf_magic: 1.5 kernel"; printf "\\033[2Jcolour\\r\\n"; echo "ebpf_magic: 2 note a b"'
    )
    one.console.wait_for_end(5)
    assert one.console.marks == {"kernel": (1.5, "")}
    assert one.console.notes == ["a b"]
    assert one.console.text() == "noise\ncolour"
    assert one.seen == ["kernel"]  # type: ignore[attr-defined]
    assert one.wait(5)
    assert one.ending() == "QEMU ended: exit code 0"
    one.close()
    one.close()


@pytest.mark.parametrize(
    ("script", "ending"),
    [
        ('echo "[1.0] Kernel panic - not syncing: no init found"', "the guest's kernel panicked: no init found"),
        ('echo "ebpf_magic: 3 ended 137"', "the agent in the guest ended: killed by SIGKILL"),
        (
            'echo "ebpf_magic: 3 oom 2"; echo "ebpf_magic: 3 ended 137"',
            "the agent in the guest ended: killed by SIGKILL; the guest had run out of memory",
        ),
        ('echo "ebpf_magic: 3 ended 1"', "the agent in the guest ended: exit code 1"),
        ('echo "ebpf_magic: 3 failed mount /usr"', "the guest could not mount /usr"),
        ("kill -KILL $$", "QEMU was killed by SIGKILL"),
        ("kill -SEGV $$", "QEMU ended: killed by SIGSEGV"),
        ("exit 3", "QEMU ended: exit code 3"),
    ],
)
def test_how_it_ended_is_said(script: str, ending: str) -> None:
    one = life(script)
    assert one.wait(5)
    assert one.ending() == ending
    one.close()


def test_what_only_looks_like_a_mark_is_none() -> None:
    one = life(
        'echo "ebpf_magic: 1.2.3 early"; echo "ebpf_magic: . x"; echo "ebpf_magic: $(printf %0500d 9) big";'
        'echo "ebpf_magic: 2 ended ²"; echo "ebpf_magic: 3 kernel"; printf "a\\302\\2335mb\\n"'
    )
    assert one.wait(5)
    assert one.ending() == "the agent in the guest ended: in an unknown way"
    assert set(one.console.marks) == {"ended", "kernel"}
    assert one.console.text() == "ab"  # U+009B begins a terminal's sequence, too
    one.close()


def test_the_console_is_read_on_whatever_becomes_of_those_who_are_told() -> None:
    agent, console = Line(), Line()
    asked: list[str] = []

    def on_mark(stage: str, seconds: float, more: str) -> None:
        asked.append(made.console.text())
        raise ValueError("no more output")

    script = 'sleep 0.2; for each in one two; do echo "ebpf_magic: 1 $each"; done; echo last'
    made = Life(["/bin/sh", "-c", script], agent, console, [], on_mark)
    made.console.wait_for_end(5)
    assert len(asked) == 2
    assert made.console.text() == "last"
    assert made.console.notes == ["how far it is could not be told: ValueError('no more output')"] * 2
    assert made.wait(5)
    made.close()


def test_a_talkative_guest_is_bounded() -> None:
    one = life('yes "ebpf_magic: 1 $$ and more" | head -c 3000000; for i in 1 2 3; do echo "ebpf_magic: 1 s$i"; done')
    one.console.wait_for_end(20)
    assert len(one.console.text()) < 100_000
    assert len(one.console.marks) <= 60
    one.kill()
    one.close()


def test_killing_is_killing_all_of_it() -> None:
    one = life("sleep 100 & echo $!; wait")
    deadline = time.monotonic() + 60
    while not one.console.text() and time.monotonic() < deadline:
        time.sleep(0.01)
    pid = int(one.console.text())
    one.kill()
    one.kill()
    assert one.wait(60)
    deadline = time.monotonic() + 60
    while running(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not running(pid)
    one.close()


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


ORPHAN = """
import sys, time
sys.path[:0] = {path!r}
from ebpf_magic.hosts.guest.life import Life, Line
agent, console = Line(), Line()
life = Life(["/bin/sh", "-c", "echo $$; exec sleep 100"], agent, console, [], lambda *mark: None)
while not life.console.text():
    time.sleep(0.01)
print(life.console.text(), flush=True)
time.sleep(100)
"""


def test_a_killed_notebook_takes_its_guest_with_it() -> None:
    words = [sys.executable, "-c", ORPHAN.format(path=sys.path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as notebook:
        assert notebook.stdout is not None
        pid = int(notebook.stdout.readline())
        assert running(pid)
        os.kill(notebook.pid, signal.SIGKILL)
        notebook.wait()
    deadline = time.monotonic() + 60
    while running(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not running(pid)
