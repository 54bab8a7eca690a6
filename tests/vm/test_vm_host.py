"""A guest for real: what it is, what it sees, what it has. QEMU and a fetched kernel are needed, no rights."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import ebpf_magic
from ebpf_magic import kernels
from ebpf_magic.errors import CommandError, EbpfMagicError
from ebpf_magic.hosts.guest import qemu, shares
from ebpf_magic.hosts.vm import VmHost

MEMORY_MB = 512
CELL = """
HASH(counts, u32, u64);
SEC("tracepoint/syscalls/sys_enter_getppid")
int on_getppid(void *ctx) { COUNT(counts, PID()); return 0; }
"""


def wanted() -> str:
    """The kernel to test on: what the environment names, else the oldest that was fetched."""
    named = os.environ.get("EBPF_MAGIC_TEST_HOST", "")
    there = [named.removeprefix("vm:")] if named.startswith("vm:") else kernels.available()
    try:
        qemu.find()
    except EbpfMagicError as error:
        pytest.skip(str(error))
    if not there:
        pytest.skip("no kernel was fetched: ebpf-magic kernel fetch 6.1")
    return there[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def host(folder: Path) -> Iterator[VmHost]:
    with ebpf_magic.hosts.vm(wanted(), memory_mb=MEMORY_MB, root=shares.machine(str(folder))) as made:
        assert made._life.console.wait_for("ready", 120)
        yield made


def told(host: VmHost, command: str) -> str:
    return host.sh(command, on_output=lambda text: None).output().strip()


def test_the_first_command_finds_the_disk(folder: Path) -> None:
    with ebpf_magic.hosts.vm(wanted(), memory_mb=MEMORY_MB, root=shares.machine(str(folder))) as fresh:
        ebpf_magic.sh("grep ' /scratch ext4 ' /proc/mounts", on=fresh, on_output=lambda text: None)


def test_a_new_idle_guest_of_512_mb_is_small(host: VmHost) -> None:
    """The first test of this guest: nothing was done in it yet."""
    status = Path(f"/proc/{qemu_of(host)}/status").read_text()
    rss_kb = int(status.partition("VmRSS:")[2].split()[0])
    assert rss_kb <= 450 << 10


def test_it_is_the_kernel_that_was_asked_for(host: VmHost) -> None:
    assert host.info.release == host.kernel.release == told(host, "uname -r")
    assert host.info.uid == 0
    assert host.info.load_problem == host.info.tracefs_problem == ""
    assert host.info.online_cpus == 2
    assert {"BPF", "PERFMON", "SYS_ADMIN"} <= set(host.info.capabilities)
    assert host.acceleration in ("kvm", "software emulation")
    assert host.btf()[:2] == b"\x9f\xeb"
    assert not host.passes_fds


def test_the_working_folder_is_seen_as_it_is_now(host: VmHost, folder: Path) -> None:
    script = folder / "script"
    for text in ("first", "second, longer", "3rd"):
        script.write_text(f"#!/bin/sh\necho {text}\n")
        script.chmod(0o755)
        assert told(host, f"cat {script}") == f"#!/bin/sh\necho {text}"
        assert told(host, str(script)) == text
    (folder / "new").mkdir()
    (folder / "new" / "file").write_text("there")
    assert told(host, f"cat {folder}/new/file") == "there"
    script.unlink()
    assert told(host, f"test -e {script} || echo gone") == "gone"


@pytest.mark.parametrize("path", ["{folder}/x", "/usr/x", "{package}/x"])
def test_what_is_shared_cannot_be_written(host: VmHost, folder: Path, path: str) -> None:
    path = path.format(folder=folder, package=Path(ebpf_magic.__file__).parent)
    with pytest.raises(CommandError, match="Read-only"):
        told(host, f"echo text >{path}")
    with pytest.raises(CommandError):
        told(host, f"mount -o remount,rw {Path(path).parent}; echo text >{path}")
    assert not Path(path).exists()


def test_the_keys_are_not_there(host: VmHost) -> None:
    home = Path.home()
    seen = told(host, f"find {home} -maxdepth 1 2>/dev/null; ls -A /home").split()
    assert not [name for name in seen if name.rpartition("/")[2] in (".ssh", ".gnupg", ".bash_history", ".cache")]
    with pytest.raises(CommandError):
        told(host, "cat /etc/shadow")


@pytest.mark.parametrize("path", ["/tmp", "/run", "/var/tmp", "/root", "/dev/shm", "/scratch"])
def test_programs_can_write_where_they_do(host: VmHost, path: str) -> None:
    assert told(host, f"echo text >{path}/file && cat {path}/file && rm {path}/file") == "text"


def test_the_scratch_disk_is_a_disk(host: VmHost) -> None:
    assert told(host, "stat -f -c %T /scratch") == "ext2/ext3"
    assert told(host, "grep /scratch /proc/mounts").startswith("/dev/vd")
    # Field 7 of block/stat: sectors written, of 512 bytes each.
    sectors = "awk '{print $7}' /sys/block/vda/stat"
    before = int(told(host, sectors))
    told(host, "dd if=/dev/zero of=/scratch/big bs=1M count=16 conv=fsync 2>/dev/null; rm /scratch/big")
    assert int(told(host, sectors)) - before >= 16 * 2048


def test_the_network_is_of_its_own(host: VmHost) -> None:
    names = told(host, "ls /sys/class/net").split()
    assert {"lo", "veth0"} <= set(names) <= {"lo", "veth0", "veth1"}
    assert told(host, "cat /sys/class/net/lo/flags") == "0x9"
    assert "10.0.0.1/24" in told(host, "/ebpf_magic/bin/ip addr show dev veth0")
    if "veth1" not in names:
        assert "10.0.0.2/24" in told(host, "ip -n peer addr show dev veth1")


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/sys/fs/cgroup", "cgroup2"), ("/sys/kernel/tracing", "tracefs"), ("/sys/fs/bpf", "bpf"), ("/proc", "proc"),
     ("/sys/kernel/debug", "debugfs"), ("/sys/kernel/security", "securityfs")],
)  # fmt: skip
def test_the_kernels_own_file_systems_are_there(host: VmHost, path: str, kind: str) -> None:
    assert f" {path} {kind} " in told(host, "cat /proc/mounts")


def test_users_and_programs_have_names(host: VmHost) -> None:
    assert told(host, "id -un") == "root"
    assert told(host, "cat /proc/sys/kernel/hostname") == host.name.replace(":", "-").replace(".", "-")
    assert told(host, "python3 -c 'print(6 * 7)'") == "42"
    assert told(host, "awk 'BEGIN { print 1 }'") == "1"


def test_qemu_is_shut_in(host: VmHost) -> None:
    process = Path(f"/proc/{qemu_of(host)}")
    assert "Seccomp:\t2" in (process / "status").read_text()
    named = {line.split()[6] for line in Path("/proc/net/unix").read_text().splitlines()[1:] if line.split()[7:]}
    for fd in (process / "fd").iterdir():
        try:
            link = os.readlink(fd)
            info = (process / "fdinfo" / fd.name).read_text()
        except FileNotFoundError:  # a file of a share, which was closed meanwhile
            continue
        assert link.removeprefix("socket:[").removesuffix("]") not in named, "a socket that others can reach"
        flags = int(info.partition("flags:")[2].split()[0], 8)
        if link.startswith("/") and flags & os.O_ACCMODE != os.O_RDONLY:
            assert link.endswith("(deleted)") or link.startswith("/dev/"), f"{link} is open for writing"


def qemu_of(host: VmHost) -> int:
    """The QEMU of a host: the child of the shell that we started."""
    shell = host._life.popen.pid
    children = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
    return next(int(pid) for pid in children if "qemu" in Path(f"/proc/{pid}/comm").read_text())
