"""A boot with QEMU played by a small program: what becomes of a guest that does not come up as it should."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from test_hostile_agent import HELLO, frame

from ebpf_magic import kernels
from ebpf_magic.errors import NoHostError
from ebpf_magic.hosts.guest import image, initramfs, life, qemu
from ebpf_magic.hosts.guest.shares import Root
from ebpf_magic.hosts.vm import VmHost, _Boot
from ebpf_magic.kernels import Kernel

KERNEL = Kernel("6.1.0-1-test", "6.1", Path("/no/vmlinuz"), Path("/no/modules"), "path")
STARTS = "print('ebpf_magic: 1 kernel', flush=True)"
# Reads one request and answers it; then as a guest that has nothing to do.
ANSWERS = "os.read(agent, 1 << 16); os.write(agent, {answer!r}); time.sleep(100)"

# By its path: `hosts.vm` is the function of that name.
vm_module = importlib.import_module("ebpf_magic.hosts.vm")

Boot = Callable[..., VmHost]


@pytest.fixture
def boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Boot:
    """Boot a guest whose QEMU is a Python program: one for emulation, one for KVM if there is to be any."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(qemu, "find", lambda: "/bin/true")

    def run(emulated: str, by_kvm: str | None = None) -> VmHost:
        def start(self: _Boot, kvm: bool) -> life.Life:
            agent, console = life.Line(), life.Line()
            text = f"import os, sys, time; agent = {agent.theirs.fileno()}\n{by_kvm if kvm else emulated}"
            return life.Life([sys.executable, "-c", text], agent, console, [], self._mark)

        monkeypatch.setattr(_Boot, "_start", start)
        monkeypatch.setattr(qemu, "may_use_kvm", lambda: by_kvm is not None)
        return _Boot("vm", KERNEL, 2, 1024, Root([]), False, lambda text: None).host()

    return run


def good(**change: object) -> str:
    return f"{STARTS}\n{ANSWERS.format(answer=frame({**HELLO, **change}))}"


def test_a_guest_that_comes_up(boot: Boot) -> None:
    with boot(good()) as host:
        assert host.info.release == HELLO["release"]
        assert (host.acceleration, host.alive) == ("software emulation", True)
    assert not host.alive


@pytest.mark.parametrize("build_id", ["00" * 20, ""])
def test_a_guest_gives_types_to_nobody_but_its_own_kind(boot: Boot, build_id: str) -> None:
    """What it says is its kernel's id could be this machine's: under that alone nothing of it may be kept."""
    with boot(good(build_id=build_id)) as host:
        assert host.info.build_id == build_id
        assert host.kernel_id == (f"guest of /no/vmlinuz: {build_id}" if build_id else "")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"Segmentation fault", "expected a frame, got b'Segm'"),
        (frame(HELLO)[:-5], "no agent within"),
        (frame({**HELLO, "protocol": 7}), "it speaks protocol 7, not 1"),
        (frame({**HELLO, "possible_cpus": -1}), "possible_cpus is to be a cpus"),
    ],
)
def test_what_the_agent_did_wrong_is_the_cause(
    boot: Boot, monkeypatch: pytest.MonkeyPatch, answer: bytes, why: str
) -> None:
    """And not that QEMU was killed, which was our own doing."""
    monkeypatch.setattr(vm_module, "BOOT_S", 1.0)
    with pytest.raises(NoHostError) as caught:
        boot(f"{STARTS}\nprint('said on the console', flush=True)\n{ANSWERS.format(answer=answer)}")
    assert why in str(caught.value)
    assert "SIGKILL" not in str(caught.value)
    assert "said on the console" in str(caught.value)


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        (
            "cannot set up guest memory 'pc.ram': Cannot allocate memory",
            "cannot give now; try less: memory_mb=512",
        ),
        ("Kernel panic - not syncing: System is deadlocked on memory", "more may help: memory_mb=2048"),
        ("Kernel panic - not syncing: no working init found", ""),
    ],
)
def test_whose_memory_is_short(boot: Boot, said: str, advice: str) -> None:
    with pytest.raises(NoHostError) as caught:
        boot(f"sys.exit({said!r})")
    assert advice in caught.value.hint
    assert bool(advice) == bool(caught.value.hint)


def test_a_frame_that_qemu_leaves_unfinished(boot: Boot) -> None:
    with pytest.raises(NoHostError, match="the stream ended within a frame"):
        boot(f"{STARTS}\nos.read(agent, 1 << 16); os.write(agent, {frame(HELLO)[:-5]!r})")


@pytest.mark.parametrize("broken", ["sys.exit('Could not open kernel')", f"{STARTS}; sys.exit(1)"])
def test_a_guest_that_no_way_boots_says_nothing_about_kvm(boot: Boot, broken: str) -> None:
    with pytest.raises(NoHostError):
        boot(broken, by_kvm="sys.exit('Could not open kernel')")
    assert qemu.remembered() is None


def test_kvm_that_boots_nothing_is_remembered_once_emulation_has(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vm_module, "_KVM_S", 1.0)
    with boot(good(), by_kvm="time.sleep(100)") as host:
        assert host.acceleration == "software emulation"
    assert qemu.remembered() is False
    with boot(good(), by_kvm=good()) as host:
        assert host.acceleration == "software emulation"


def test_kvm_that_boots_is_remembered(boot: Boot) -> None:
    with boot(good(), by_kvm=good()) as host:
        assert host.acceleration == "kvm"
    assert qemu.remembered() is True
    with boot(good(), by_kvm="sys.exit(1)") as host:  # it does not today, for whatever reason
        assert host.acceleration == "software emulation"
    assert qemu.remembered() is True


@pytest.mark.parametrize("at", ["image", "lines"])
def test_what_this_process_cannot_get_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """An image that cannot be read, no more descriptors: one error, and nothing left open (a warning is an error)."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(qemu, "find", lambda: "/bin/true")
    monkeypatch.setattr(qemu, "may_use_kvm", lambda: False)
    if at == "lines":
        monkeypatch.setattr(image, "fastest", lambda kernel: kernel.image)
        monkeypatch.setattr(initramfs, "base", lambda kernel, busybox: b"")
        monkeypatch.setattr(kernels, "busybox", lambda: Path("/bin/true"))
        monkeypatch.setattr(life, "Line", no_descriptor)
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(NoHostError, match=r"boot kernel 6\.1\.0-1-test.*(vmlinuz cannot be read|Too many open files)"):
        _Boot("vm", KERNEL, 2, 1024, Root([]), False, lambda text: None).host()
    assert set(os.listdir("/proc/self/fd")) == before


def no_descriptor() -> life.Line:
    raise OSError(errno.EMFILE, "Too many open files")
