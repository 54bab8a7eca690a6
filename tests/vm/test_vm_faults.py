"""Everything that can happen to a guest: each is one clear error, nothing stays, and the next boot works."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from test_vm_host import CELL, qemu_of, told, wanted

import ebpf_magic
from ebpf_magic import kernels
from ebpf_magic.agent.attach.user import resolve
from ebpf_magic.errors import AgentError, AgentTimeoutError, EbpfMagicError, NoHostError
from ebpf_magic.hosts import registry
from ebpf_magic.hosts.guest import shares
from ebpf_magic.hosts.vm import VmHost


@pytest.fixture(scope="module")
def name() -> Iterator[str]:
    yield f"vm:{wanted()}"
    registry.close_all()


@pytest.fixture
def host(name: str) -> VmHost:
    """A guest that works: of one that a test before has broken, the next."""
    made = registry.get(name)
    assert isinstance(made, VmHost)
    assert told(made, "echo well") == "well"
    return made


def gone(pid: int, within_s: float = 60.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def broken(host: VmHost) -> AgentError:
    """The error that the next call gives, once the guest is broken."""
    with pytest.raises(AgentError) as caught:
        for _ in range(600):
            host.status()
            time.sleep(0.1)
    return caught.value


def test_a_panic_is_told_with_the_consoles_last_lines(host: VmHost) -> None:
    pid = qemu_of(host)
    with pytest.raises(EbpfMagicError):
        told(host, "echo c >/proc/sysrq-trigger; sleep 30")
    error = broken(host)
    assert "panicked: sysrq triggered crash" in str(error)
    assert "Kernel panic" in error.log
    assert gone(pid)


def test_a_killed_qemu_is_told_its_session_fails_and_the_cell_runs_again(host: VmHost, name: str) -> None:
    session = ebpf_magic.run(CELL, name="calls", on=name)
    pid = qemu_of(host)
    os.kill(pid, signal.SIGKILL)
    assert "QEMU was killed by SIGKILL" in str(broken(host))
    assert gone(pid)
    with pytest.raises(EbpfMagicError):
        session.maps["counts"].df()
    with ebpf_magic.run(CELL, name="calls", on=name) as again:
        assert again.maps["counts"].df().empty
    ebpf_magic.stop_all()


def test_a_killed_agent_is_told(host: VmHost) -> None:
    pid = qemu_of(host)
    with pytest.raises(EbpfMagicError):
        told(host, f"kill -9 {host.info.pid}; sleep 30")
    assert "the agent in the guest ended: killed by SIGKILL" in str(broken(host))
    assert gone(pid)


def test_a_guest_that_hangs_is_given_up(host: VmHost) -> None:
    pid = qemu_of(host)
    os.kill(pid, signal.SIGSTOP)
    host.deadline_s = 1.0
    with pytest.raises(AgentTimeoutError, match="no answer within 1 s"):
        host.status()
    assert gone(pid)


def test_a_kernel_that_is_none_is_told(host: VmHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "vmlinuz"
    image.write_bytes(b"no kernel" * 1000)
    monkeypatch.setattr(kernels, "find", lambda wanted: replace(host.kernel, image=image))
    with pytest.raises(NoHostError, match="QEMU ended"):
        ebpf_magic.hosts.vm("6.1")


def test_a_share_that_is_gone_is_told(host: VmHost, tmp_path: Path) -> None:
    root = shares.machine(str(tmp_path))
    root.shares.append(shares.Share(str(tmp_path / "gone")))
    with pytest.raises(NoHostError, match="gone"):
        ebpf_magic.hosts.vm(host.kernel.release, root=root)


NOTEBOOK = """
import sys, time
from pathlib import Path
sys.path[:0] = {path!r}
import ebpf_magic
host = ebpf_magic.hosts.vm({kernel!r})
shell = host._life.popen.pid
print(Path(f"/proc/{{shell}}/task/{{shell}}/children").read_text(), flush=True)
time.sleep(600)
"""


def test_a_killed_notebook_leaves_nothing(name: str, tmp_path: Path) -> None:
    registry.close_all()  # at most one QEMU at a time
    words = [sys.executable, "-c", NOTEBOOK.format(path=sys.path, kernel=name.partition(":")[2])]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(tmp_path)}) as one:
        assert one.stdout is not None
        pids = [int(pid) for pid in one.stdout.readline().split()]
        assert pids
        one.send_signal(signal.SIGKILL)
        one.wait()
    for pid in pids:
        assert gone(pid)
    assert list(tmp_path.iterdir()) == []


def test_a_root_of_an_image(tmp_path: Path, name: str) -> None:
    registry.close_all()
    maker = shutil.which("mke2fs", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if maker is None:
        pytest.skip("no mke2fs to make an image with")
    python = os.path.realpath("/usr/bin/python3")
    version = Path(python).name
    with tempfile.TemporaryDirectory() as made:
        tree = Path(made) / "tree"
        copy_tree(tree, python, Path(f"/usr/lib/{version}"))
        image = Path(made) / "image"
        subprocess.run([maker, "-q", "-t", "ext4", "-d", tree, image, "400M"], check=True)
        content = image.read_bytes()
        root = shares.image(image, python=f"/usr/bin/{version}", folder=str(tmp_path))
        (tmp_path / "file").write_text("fresh")
        with ebpf_magic.hosts.vm(name.partition(":")[2], root=root) as host:
            assert host.info.load_problem == ""
            assert told(host, "cat /marker") == "of the image"
            assert told(host, f"cat {tmp_path}/file") == "fresh"
            assert told(host, "echo mine >/marker; cat /marker") == "mine"
        assert image.read_bytes() == content


def copy_tree(tree: Path, python: str, library: Path) -> None:
    """The least that an agent and a shell need: an interpreter, its library, what they are linked to."""
    wanted = {python, "/bin/sh", "/bin/cat", "/bin/sleep"}
    native = [str(path) for path in (library / "lib-dynload").glob("*.so")]
    libbpf = resolve("libbpf.so.1")
    assert libbpf
    wanted.add(libbpf)
    linked = subprocess.run(["ldd", *wanted, *native], capture_output=True, text=True, check=False).stdout
    wanted |= {
        word for line in linked.splitlines() for word in line.split() if word.startswith("/") and ":" not in word
    }
    for top in ("bin", "sbin", "lib", "lib64"):
        (tree / "usr" / top).mkdir(parents=True)
        (tree / top).symlink_to(f"usr/{top}")
    (tree / "etc").mkdir()
    (tree / "marker").write_text("of the image\n")
    for path in wanted:
        target = tree / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(os.path.realpath(path), target)
    ignored = shutil.ignore_patterns("test", "__pycache__", "idlelib", "config-*", "dist-packages")
    shutil.copytree(library, tree / str(library).lstrip("/"), ignore=ignored, dirs_exist_ok=True)
