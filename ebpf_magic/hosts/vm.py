"""A real kernel in a virtual machine of this user's own: no root, no network, nothing installed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ebpf_magic.arguments import checked
from ebpf_magic.errors import AgentError, AgentTimeoutError, NoHostError, UsageError
from ebpf_magic.hosts.base import GONE, AgentHost, HostInfo

if TYPE_CHECKING:
    from ebpf_magic.hosts.guest.life import Life
    from ebpf_magic.hosts.guest.shares import Root
    from ebpf_magic.hosts.shell import Command
    from ebpf_magic.kernels import Kernel

Progress = Callable[[str], None]

_PACKAGE = Path(__file__).resolve().parents[1]
BOOT_S = 90.0
_READY_S = 30.0
# Emulated, everything takes ten times as long.
_DEADLINE_S = 60.0
# A guest that KVM boots says its first word within half a second.
_KVM_S = 4.0
_MOST_CPUS = 64
_MIN_MEMORY_MB = 80
_USUAL_MEMORY_MB = 1024
_ROOMY_MB = 256
_LAST_LINES = 15


class VmHost(AgentHost):
    """A guest and its agent; `close` ends it, also as a context manager.

    Attributes
    ----------
    kernel : Kernel
        What it runs.
    root : Root
        The files it runs on; `notes` says what was left out.
    acceleration : str
        ``kvm`` or ``software emulation``.
    """

    may_change = True  # nothing in it is anybody else's

    def __init__(self, name: str, life: Life, kernel: Kernel, root: Root, acceleration: str) -> None:
        self.kernel = kernel
        self.root = root
        self.acceleration = acceleration
        self._life = life
        super().__init__(name, life)
        self.deadline_s = _DEADLINE_S
        self.deadlines_s = {verb: max(seconds, _DEADLINE_S) for verb, seconds in self.deadlines_s.items()}

    def __enter__(self) -> VmHost:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def kernel_id(self) -> str:
        """As every host's; but a guest that says another kernel's id gives types to nobody but those of its own."""
        return f"guest of {self.kernel.image}: {self.info.build_id}" if self.info.build_id else ""

    @property
    def console(self) -> str:
        """The last lines of the guest's console."""
        return self._life.console.text()

    @property
    def notes(self) -> list[str]:
        """What the guest does without, and why."""
        return [*self.root.notes, *self._life.console.notes]

    @checked
    def sh(
        self,
        command: str,
        *,
        background: bool = False,
        timeout_s: float | None = None,
        on_output: Callable[[str], object] | None = None,
    ) -> Command:
        """Run a shell command as the guest's root, once the guest has its disk and its network.

        See :func:`ebpf_magic.sh`, which finds the host by itself.
        """
        if self.alive:
            self._life.console.wait_for("ready", _READY_S)
        return super().sh(command, background=background, timeout_s=timeout_s, on_output=on_output)

    def close(self) -> None:
        """End the guest at once: nothing of it outlives it that an agent would have to take out; safe to call twice."""
        self._life.kill()
        super().close()

    def _hello(self) -> HostInfo:
        self.deadlines_s["hello"] = BOOT_S
        return super()._hello()


@checked
def vm(
    kernel: str | None = None,
    cpus: int = 2,
    memory_mb: int = _USUAL_MEMORY_MB,
    *,
    root: Root | None = None,
    scratch: bool = True,
    progress: Progress | None = None,
) -> VmHost:
    """Boot a kernel in a virtual machine and start an agent in it.

    It runs under this user's id, with the processor's virtualisation where that boots it and emulated elsewhere. It
    sees this machine's /usr, this interpreter and the working folder, read-only, and nothing of the home. It costs a
    few seconds, and the memory that the guest uses.

    Parameters
    ----------
    kernel : str, optional
        ``6.1``, a full release, or the path of a vmlinuz; the newest fetched one unless said.
    cpus : int
        The guest's processors.
    memory_mb : int
        The guest's memory in MiB, at most what this machine has; what it does not touch costs nothing.
    root : Root, optional
        The files it runs on: `guest.shares.machine()` unless said, or `guest.shares.image(path)`.
    scratch : bool
        Whether it gets a disk of 1 GiB at /scratch, gone with it.
    progress : callable, optional
        Called with a line of text as it comes up; from another thread.

    Returns
    -------
    VmHost

    Raises
    ------
    NoKernelError
        There is no such kernel; it says how to fetch it.
    UsageError
        No guest can have so many processors, or so much memory.
    NoHostError
        No QEMU, or the guest did not come up; the console's last lines are in it, all that is kept of it on ``log``.

    Requires
    --------
    QEMU for this architecture; no root, no network.
    """
    from ebpf_magic import kernels

    _check_size(f"boot a guest with {cpus!r} processors", cpus, 1, _MOST_CPUS)
    _check_size(f"boot a guest with {memory_mb!r} MiB of memory", memory_mb, _MIN_MEMORY_MB, _memory_here_mb())
    found = kernels.find(kernel)
    name = "vm" if kernel is None else f"vm:{kernel}"
    return _Boot(name, found, cpus, memory_mb, root, scratch, progress or (lambda text: None)).host()


def _check_size(what: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise UsageError(what, f"from {least} to {most:,} can be had here")


def _memory_here_mb() -> int:
    """Return what this machine has in all: a guest that uses more has the machine end other processes.

    The usual is fine on a smaller one, too: an idle guest touches a quarter of it.
    """
    return max(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20, _USUAL_MEMORY_MB)


class _Boot:
    """One boot of one guest; a second attempt is made without KVM where that did not start it."""

    def __init__(
        self,
        name: str,
        kernel: Kernel,
        cpus: int,
        memory_mb: int,
        root: Root | None,
        scratch: bool,
        progress: Progress,
    ) -> None:
        from ebpf_magic.hosts.guest import qemu, shares

        self._name = name
        self._kernel = kernel
        self._cpus = cpus
        self._memory_mb = memory_mb
        self._root = root or shares.machine()
        self._scratch = scratch
        self._tell = progress
        self._qemu = qemu.find()
        self._began = time.monotonic()

    def host(self) -> VmHost:
        """Boot, by KVM if that is not known not to work."""
        from ebpf_magic.hosts.guest import qemu

        known = qemu.remembered()
        if not qemu.may_use_kvm() or known is False:
            return self._finish(self._start(kvm=False), "software emulation")
        life = self._start(kvm=True)
        try:
            works = life.console.wait_for("kernel", _KVM_S)
            if works:
                if known is None:
                    qemu.remember(True)
                return self._finish(life, "kvm")
        except BaseException:
            _end(life)
            raise
        _end(life)
        self._progress("kvm does not boot a guest here: software emulation instead")
        host = self._finish(self._start(kvm=False), "software emulation")
        if known is None:  # not before: what neither way boots says nothing about KVM
            qemu.remember(False)
        return host

    def _start(self, kvm: bool) -> Life:
        from ebpf_magic import kernels
        from ebpf_magic.hosts.guest import image, initramfs, life, qemu, scratch

        how = "kvm" if kvm else "software emulation"
        self._progress(f"booting {self._kernel.release} ({how})")
        picture = image.fastest(self._kernel)
        with contextlib.ExitStack() as stack, self._told_as_ours():
            disk = scratch.make() if self._scratch else None
            disk = None if disk is None else life.out_of_the_way(disk)
            if disk is not None:
                stack.callback(os.close, disk)
            initrd = life.out_of_the_way(os.memfd_create("ebpf_magic-initrd"))
            stack.callback(os.close, initrd)
            host_name = self._name.replace(":", "-").replace(".", "-").replace("/", "-")[:60]
            parts = (
                initramfs.base(self._kernel, kernels.busybox()),
                initramfs.boot(self._root, _PACKAGE, host_name, kernels.libbpf(), disk is not None),
            )
            for part in parts:
                _write(initrd, part)
            agent, console = life.Line(), life.Line()
            guest = qemu.Guest(
                picture,
                self._root,
                self._cpus,
                self._memory_mb,
                initrd,
                agent.theirs.fileno(),
                console.theirs.fileno(),
                disk,
            )
            inherited = [initrd] if disk is None else [initrd, disk]
            return life.Life(qemu.command(self._qemu, guest, kvm), agent, console, inherited, self._mark)

    @contextlib.contextmanager
    def _told_as_ours(self) -> Iterator[None]:
        """Name what this process itself could not get for a guest: descriptors, memory, processes."""
        try:
            yield
        except OSError as error:
            raise NoHostError(
                f"boot kernel {self._kernel.release} in a virtual machine", str(error), errno=error.errno
            ) from error

    def _finish(self, life: Life, how: str) -> VmHost:
        try:
            host = VmHost(self._name, life, self._kernel, self._root, how)
        except AgentTimeoutError as error:
            raise self._failure(f"no agent within {BOOT_S:g} s", life) from error
        except AgentError as error:
            raise self._failure(error.why.partition("\n")[0].removeprefix(GONE), life) from error
        except BaseException:
            _end(life)
            raise
        if host.info.load_problem:
            host.close()
            raise NoHostError(f"run programs on {self._name}", host.info.load_problem)
        took = f"{time.monotonic() - self._began:.1f} s"
        notes = "".join(f"\n{note}" for note in self._root.notes)
        self._progress(f"Linux {self._kernel.release} is up after {took} ({how}){notes}")
        return host

    def _failure(self, why: str, life: Life) -> NoHostError:
        words = life.console.text()
        last = "\n".join(words.splitlines()[-_LAST_LINES:])
        return NoHostError(
            f"boot kernel {self._kernel.release} in a virtual machine",
            why + (f"\nThe last lines of its console:\n{last}" if last else ""),
            self._advice(f"{why} {words}".lower()),
            log=words,
        )

    def _advice(self, words: str) -> str:
        had = f"It had {self._memory_mb} MiB of memory"
        if "cannot set up guest memory" in words:  # QEMU's own
            less = max(self._memory_mb // 2, _ROOMY_MB)
            return f"{had}, which this machine cannot give now; try less: memory_mb={less}."
        if "memory" in words or self._memory_mb < _ROOMY_MB:
            return f"{had}; more may help: memory_mb={max(self._memory_mb * 2, 1024)}."
        return ""

    def _progress(self, text: str) -> None:
        self._tell(f"{self._name}: {text}")

    def _mark(self, stage: str, seconds: float, more: str) -> None:
        if stage == "kernel":
            self._progress(f"{self._kernel.release} has started, now the agent")


def _end(life: Life) -> None:
    life.kill()
    life.close()


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
