"""What a guest needs and does not get, for real: one clear error for each, nothing left, and the next cell works."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from test_vm_host import CELL, told, wanted

import ebpf_magic
from ebpf_magic import kernels
from ebpf_magic.errors import AgentError, EbpfMagicError, NoHostError, NoKernelError
from ebpf_magic.hosts import registry
from ebpf_magic.hosts.guest import shares
from ebpf_magic.session import Session

PACKAGE = Path(ebpf_magic.__file__).parent


@pytest.fixture(scope="module")
def name() -> Iterator[str]:
    yield f"vm:{wanted()}"
    ebpf_magic.stop_all()
    registry.close_all()


@pytest.fixture
def kernel(name: str) -> kernels.Kernel:
    return kernels.find(name.partition(":")[2])


@pytest.fixture(autouse=True)
def the_next_cell_works(name: str) -> Iterator[None]:
    """Whatever happened, a guest that was there before is there, and no other."""
    before = registry.get(name)
    yield
    assert works(name) is before
    assert guests() == [before._life.popen.pid]


def works(name: str, calls: int = 3) -> registry.AgentHost:
    """Run a cell on a host and have it count."""
    session = ebpf_magic.run(CELL, name="calls", on=name)
    assert isinstance(session, Session)
    with session:
        told(session.agent_host, f"python3 -I -S -c 'import os; [os.getppid() for _ in range({calls})]'")
        assert calls in session.maps["counts"].df()["value"].to_list()
    return session.agent_host


def guests() -> list[int]:
    """The processes that hold a QEMU of this process's: the shells it was started by."""
    return [child for child in _children() if b"qemu-system" in _command(child)]


def _children() -> Iterator[int]:
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended meanwhile
            yield from map(int, (task / "children").read_text().split())


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # a child that has ended meanwhile
        return b""


def own_kernel(kernel: kernels.Kernel, folder: Path, without: str = "") -> Path:
    """A kernel of one's own: the same image and modules, but for those of a name."""
    modules = folder / "lib/modules" / kernel.release
    modules.mkdir(parents=True)
    (modules / "kernel").symlink_to(kernel.modules / "kernel")
    for index in ("modules.dep", "modules.builtin"):
        lines = (kernel.modules / index).read_text().splitlines(keepends=True)
        kept = [line for line in lines if not without or without not in line.partition(":")[0]]
        (modules / index).write_text("".join(kept))
    image = folder / "vmlinuz"
    image.write_bytes(kernel.image.read_bytes())
    return image


def test_no_qemu_on_the_path_then_one_for_two_cells_at_once(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    other = f"vm:{registry.get(name).info.release}"  # the same kernel, by its long name: not booted yet
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "/nonexistent")
        with pytest.raises(NoHostError, match=r"qemu-system-\w+ is not on the path\nInstall it: apt install qemu"):
            ebpf_magic.run(CELL, name="calls", on=other)
    said: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(ebpf_magic.run, CELL, name=each, on=other, progress=said.append) for each in ("one", "two")]
    one, two = (run.result() for run in runs)
    host = registry.get(other)
    assert one.agent_host is two.agent_host is host
    assert any("booting" in text for text in said)
    assert sum("is up after" in text for text in said) == 1
    assert one.maps["counts"].df().empty
    told(host, "python3 -I -S -c 'import os; [os.getppid() for _ in range(1000)]'")
    for session in (one, two):
        assert 1000 in session.maps["counts"].df()["value"].to_list()
        session.stop()
    host.close()


def test_a_kernel_that_this_user_may_not_read(kernel: kernels.Kernel) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to others, so that all would fail there
        os.chmod(folder, 0o755)
        image = own_kernel(kernel, Path(folder))
        image.chmod(0)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)
            with pytest.raises(NoKernelError, match=f"use the kernel {re.escape(str(image))}: Permission denied"):
                ebpf_magic.run(CELL, name="calls", on=f"vm:{image}")
        finally:
            os.seteuid(user)


@pytest.mark.parametrize(
    ("without", "why"),
    [
        ("9p.ko", r"it has no 9p file system: 9p is neither among its modules nor built in\nTake another"),
        ("virtio_console", r"it has no virtio-serial ports"),
    ],
)
def test_a_kernel_that_lacks_what_a_guest_needs(kernel: kernels.Kernel, tmp_path: Path, without: str, why: str) -> None:
    image = own_kernel(kernel, tmp_path, without)
    with pytest.raises(NoHostError, match=f"boot kernel {re.escape(kernel.release)}: {why}"):
        ebpf_magic.run(CELL, name="calls", on=f"vm:{image}")


def test_a_kernel_whose_modules_are_gone(kernel: kernels.Kernel, tmp_path: Path) -> None:
    image = own_kernel(kernel, tmp_path)
    (tmp_path / "lib/modules" / kernel.release / "kernel").unlink()
    with pytest.raises(NoHostError, match=r"/kernel/\S+ cannot be read: No such file or directory"):
        ebpf_magic.run(CELL, name="calls", on=f"vm:{image}")


def test_a_kernel_whose_module_is_not_loaded(kernel: kernels.Kernel, tmp_path: Path) -> None:
    """As by a kernel that takes none without its signature."""
    image = own_kernel(kernel, tmp_path, "virtio_console")
    modules = tmp_path / "lib/modules" / kernel.release
    (modules / "virtio_console.ko").write_bytes(b"no module")
    with (modules / "modules.dep").open("a") as index:
        index.write("virtio_console.ko:\n")
    try:
        works(f"vm:{image}")
    except NoHostError as error:
        assert "the guest could not find its line to this machine, a virtio-serial port" in error.why
        assert "virtio_console.ko" in error.log
    else:  # this kernel has it built in, which its index of modules now hides
        assert "virtio_console" in (kernel.modules / "modules.builtin").read_text()
        registry.get(f"vm:{image}").close()


def test_on_two_kernels_of_which_one_does_not_boot(name: str, kernel: kernels.Kernel, tmp_path: Path) -> None:
    bad = f"vm:{own_kernel(kernel, tmp_path, '9p.ko')}"
    for on in ([name, bad], [bad, name]):
        with pytest.raises(NoHostError, match=f"on {re.escape(bad)}: boot kernel .* no 9p"):
            ebpf_magic.run(CELL, name="calls", on=on)
        assert ebpf_magic.sessions() == []
        assert registry.get(name).status()["sessions"] == {}


def test_a_kernel_removed_under_a_running_guest(
    kernel: kernels.Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it is in the guest's memory by then; the next boot is told."""
    if kernel.source != "fetched":
        pytest.skip("only a fetched kernel can be removed")
    data = kernel.image.parents[3]
    (tmp_path / "ebpf_magic/kernels").mkdir(parents=True)
    (tmp_path / "ebpf_magic/tools").symlink_to(data / "tools")
    (tmp_path / "ebpf_magic/kernels" / kernel.release).symlink_to(kernel.image.parents[1])
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    on = f"vm:{kernel.release}"
    host = works(on)
    assert kernels.remove(kernel.release).release == kernel.release
    assert kernel.image.is_file(), "the test's own link was removed, not the kernel"
    assert works(on) is host
    told(host, "echo text >/scratch/file && cat /scratch/file")
    host.close()
    with pytest.raises(NoKernelError, match=f"find kernel {re.escape(kernel.release)}.*\n.*kernel fetch"):
        ebpf_magic.run(CELL, name="calls", on=on)


@pytest.mark.parametrize("after_s", [0.02, 0.5, 2.0])
def test_an_interrupt_while_it_boots(kernel: kernels.Kernel, after_s: float) -> None:
    before, sockets = set(guests()), descriptors()
    main = threading.main_thread().ident
    timer = threading.Timer(after_s, signal.pthread_kill, [main, signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        ebpf_magic.run(CELL, name="calls", on=f"vm:{kernel.release}")
    timer.join()
    assert set(guests()) == before
    assert descriptors() == sockets


def descriptors() -> int:
    return sum(os.readlink(link).startswith(("socket:", "/memfd:")) for link in _links())


def _links() -> Iterator[str]:
    for fd in os.listdir("/proc/self/fd"):
        if os.path.lexists(f"/proc/self/fd/{fd}"):  # but for the listing's own
            yield f"/proc/self/fd/{fd}"


@pytest.mark.parametrize("memory_mb", [80, 104])
def test_a_guest_with_far_too_little_memory(kernel: kernels.Kernel, memory_mb: int) -> None:
    """It looks by itself, before it starts an agent that it could only read over and over; if it comes so far."""
    with pytest.raises(NoHostError) as caught:
        ebpf_magic.hosts.vm(kernel.release, memory_mb=memory_mb)
    looked = re.search("the guest could not start an agent in [0-9]+ MiB, which is all the", caught.value.why)
    assert looked or (memory_mb == 80 and "the guest's kernel panicked" in caught.value.why)
    assert caught.value.hint == f"It had {memory_mb} MiB of memory; more may help: memory_mb=1024."
    assert caught.value.log


# In the place of the guest's interpreter: the agent, but for one of its answers.
AGENT = f"""#!/usr/bin/python3 -IS
import sys
if "-c" in sys.argv:
    sys.exit("not to be asked for a bundle")
sys.path.append({str(PACKAGE)!r})
from agent import server, wire
call = server.Server._call
def spoil(self, frame):
    if frame.header["verb"] == {{verb!r}}:
        wire.encode_header = lambda header, payload_bytes, encode=wire.encode_header: {{spoilt}}
        wire.Channel._send_all = lambda self, part, send=wire.Channel._send_all: (send(self, part), sys.exit(3))
    return call(self, frame)
server.Server._call = spoil
from agent import libbpf
libbpf.PATHS = (*sys.argv[7:], *libbpf.PATHS)
from agent.__main__ import main
open("/run/agent-is-up", "w").close()
sys.exit(main(shell=True))
"""
CUT_SHORT = "encode(header, payload_bytes)[:-5]"
FALSE_LENGTH = "wire.HEADER.pack(wire.MAGIC, 1 << 31, 1 << 62)"


@pytest.mark.parametrize(
    ("verb", "spoilt", "why"),
    [
        ("hello", CUT_SHORT, "the stream ended within a frame"),
        ("status", CUT_SHORT, "the stream ended within a frame"),
        ("status", FALSE_LENGTH, r"a frame of 2147483648 \+ 4611686018427387904 bytes is beyond the bounds"),
    ],
)
def test_a_frame_that_is_not_what_it_says(
    kernel: kernels.Kernel, tmp_path: Path, verb: str, spoilt: str, why: str
) -> None:
    agent = tmp_path / "agent"
    agent.write_text(AGENT.format(verb=verb, spoilt=spoilt))
    agent.chmod(0o755)
    root = shares.machine(str(tmp_path))
    root.python = str(agent)
    if verb == "hello":
        with pytest.raises(NoHostError, match=f"boot kernel {re.escape(kernel.release)} in a virtual machine: {why}"):
            ebpf_magic.hosts.vm(kernel.release, root=root)
        return
    with ebpf_magic.hosts.vm(kernel.release, root=root) as host:
        assert told(host, "echo it works") == "it works"
        with pytest.raises(AgentError, match=f"the agent is gone: {why}"):
            host.status()
        with pytest.raises(EbpfMagicError, match="the agent is gone"):
            host.sh("true")
