"""QEMU's command line, and whether the processor's own virtualisation is used or emulated."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from ebpf_magic import cache
from ebpf_magic.errors import NoHostError
from ebpf_magic.hosts.guest.shares import Root

_SYSTEMS = {"x86_64": "qemu-system-x86_64", "aarch64": "qemu-system-aarch64"}
_PACKAGES = {"x86_64": "qemu-system-x86", "aarch64": "qemu-system-arm"}
_KVM = Path("/dev/kvm")
# pc boots a stock kernel sooner than q35 under emulation, and needs no firmware that microvm would.
_MACHINES = {"x86_64": "pc", "aarch64": "virt"}
_CONSOLES = {"x86_64": "ttyS0", "aarch64": "ttyAMA0"}
# Nothing in the guest is to be kept from anything else in it. A panic ends the machine.
_APPEND = "quiet panic=-1 mitigations=off random.trust_cpu=on audit=0"
# Clocks are not measured (that fails in emulation, after half a second), no key is waited for, no algorithm tries
# itself; and interrupts are not routed by ACPI, whose interpreter takes half a second for each device.
_APPEND_X86 = (
    "tsc=reliable no_timer_check lpj=4000000 nomodeset i8042.noaux i8042.nokbd i8042.nopnp cryptomgr.notests=1 "
    "initcall_blacklist=crypto_kdf108_init pci=noacpi"
)
# Translated code takes as much memory as it is given.
_TRANSLATED_MB = 96


@dataclass(frozen=True)
class Guest:
    """What a guest is to be made of; descriptors are this process's, to be inherited by QEMU."""

    kernel: Path
    root: Root
    cpus: int
    memory_mb: int
    initrd_fd: int
    agent_fd: int
    console_fd: int
    scratch_fd: int | None = None


def find() -> str:
    """Return the path of QEMU for this machine's architecture.

    Raises
    ------
    NoHostError
        It is not installed, or the architecture is one we have no guest for.
    """
    machine = platform.machine()
    if machine not in _SYSTEMS:
        raise NoHostError("run programs in a virtual machine", f"{machine} is not offered yet: x86_64 and aarch64 are")
    path = shutil.which(_SYSTEMS[machine])
    if path is None:
        raise NoHostError(
            "run programs in a virtual machine",
            f"{_SYSTEMS[machine]} is not on the path",
            f"Install it: apt install {_PACKAGES[machine]}, or dnf install qemu-kvm.",
        )
    return path


def command(qemu: str, guest: Guest, kvm: bool, machine: str | None = None) -> list[str]:
    """Return the whole command line of a guest."""
    machine = machine or platform.machine()
    words = [qemu, "-no-user-config", "-nodefaults", "-display", "none", "-nic", "none", "-no-reboot"]
    words += ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
    words += ["-machine", _MACHINES[machine] + ("" if machine == "aarch64" else ",vmport=off,hpet=off")]
    # One thread for all processors: with one each, a processor now and then runs into an instruction that another has
    # just patched, as attaching to a tracepoint does, and the kernel panics ("int3" in __schedule, QEMU 7.2).
    words += ["-accel", "kvm" if kvm else f"tcg,thread=single,tb-size={_TRANSLATED_MB}"]
    words += ["-cpu", "host" if kvm else "max", "-smp", str(guest.cpus), "-m", f"{guest.memory_mb}M"]
    words += ["-kernel", str(guest.kernel), "-initrd", f"/proc/self/fd/{guest.initrd_fd}"]
    words += ["-append", append(machine)]
    words += ["-chardev", f"socket,id=console,fd={guest.console_fd}", "-serial", "chardev:console"]
    words += ["-chardev", f"socket,id=agent,fd={guest.agent_fd}", "-device", "virtio-serial-pci"]
    words += ["-device", "virtserialport,chardev=agent,name=agent"]
    if guest.root.image:
        words += _disk("image", f"driver=file,filename={_escaped(guest.root.image)},read-only=on,locking=off", "on")
    if guest.scratch_fd is not None:
        words += ["-add-fd", f"fd={guest.scratch_fd},set=1"]
        words += _disk(
            "scratch", "driver=file,filename=/dev/fdset/1,locking=off,discard=unmap,cache.no-flush=on", "off"
        )
    for number, share in enumerate(guest.root.shares):
        name = f"share{number}"
        where = f"local,id={name},path={_escaped(share.path)},security_model=none,readonly=on,multidevs=remap"
        words += ["-fsdev", where, "-device", f"virtio-9p-pci,fsdev={name},mount_tag={name}"]
    return words


def append(machine: str) -> str:
    """Return the guest kernel's command line."""
    words = [f"console={_CONSOLES[machine]}", _APPEND]
    return " ".join([*words, _APPEND_X86] if machine == "x86_64" else words)


def acceleration() -> str:
    """Say in one line what a guest is run by: ``kvm``, or why not."""
    if not may_use_kvm():
        why = "there is no /dev/kvm" if not _KVM.exists() else "this user may not open /dev/kvm"
        return f"software emulation ({why})"
    known = remembered()
    if known is None:
        return "kvm will be tried at the first boot"
    return "kvm" if known else "software emulation (kvm was tried and did not boot the guest)"


def may_use_kvm() -> bool:
    """Whether this user may open /dev/kvm."""
    return os.access(_KVM, os.R_OK | os.W_OK)


def remembered() -> bool | None:
    """Whether KVM has booted a guest on this machine; None when it was not tried."""
    made = cache.get("toolchain", _machine_key())
    return None if made is None else made == b"kvm"


def remember(works: bool) -> None:
    """Keep whether KVM booted a guest here."""
    cache.put("toolchain", _machine_key(), b"kvm" if works else b"tcg")


def _machine_key() -> str:
    """Return what identifies the machine, so that a home on several ones is no trap."""
    model = ""
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith(("model name", "CPU part")):
                model = line
                break
    except OSError:  # /proc hidden: then the release alone says it
        model = ""
    return cache.digest("acceleration", platform.release(), platform.version(), model, shutil.which(find()) or "")


def _disk(name: str, backend: str, read_only: str) -> list[str]:
    return ["-blockdev", f"{backend},node-name={name}", "-device", f"virtio-blk-pci,drive={name}"]


def _escaped(text: str) -> str:
    """Return a value as QEMU's options want it: a comma doubled."""
    return text.replace(",", ",,")
