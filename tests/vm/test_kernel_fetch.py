"""A kernel fetched for real, by a user without any right: from the distribution's packages, over the network."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ebpf_magic import kernels
from ebpf_magic.kernels import finding, store

pytestmark = pytest.mark.slow

_NOBODY = 65534
# Everything is imported before the rights are given up: the checkout may be where only its owner may look.
_PROGRAM = f"""
import os, sys
from ebpf_magic import cli, kernels
from ebpf_magic.hosts.guest import image
if os.getuid() == 0:
    os.setgroups([])
    os.setresgid({_NOBODY}, {_NOBODY}, {_NOBODY})
    os.setresuid({_NOBODY}, {_NOBODY}, {_NOBODY})
os.chdir(os.environ["HOME"])
sys.exit(cli.main(["kernel", *sys.argv[1:]]))
"""
_PATIENCE_S = 300


class User:
    """A user with a home and nothing else."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.data = home / ".local/share/ebpf_magic"

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-c", _PROGRAM, *words]

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
        return kept | {"HOME": str(self.home), "PYTHONPATH": os.pathsep.join(sys.path)}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words), env=self.environment(), capture_output=True, text=True, timeout=_PATIENCE_S
        )

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.command(*words), env=self.environment(), stderr=subprocess.PIPE)

    def names(self) -> list[str]:
        return sorted(os.listdir(self.data)) if self.data.exists() else []


@pytest.fixture
def user() -> Iterator[User]:
    # pytest's own folders are closed to others.
    home = Path(tempfile.mkdtemp(prefix="ebpf_magic-test-"))
    if os.getuid() == 0:
        os.chown(home, _NOBODY, _NOBODY)
    yield User(home)
    shutil.rmtree(home)


def test_a_user_without_rights_fetches_a_kernel(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    _fetch_twice_at_once(user)
    monkeypatch.setenv("XDG_DATA_HOME", str(user.home / ".local/share"))
    assert user.data.stat().st_uid == (os.getuid() or _NOBODY)
    kernel = kernels.find("6.1")
    assert kernel.version == "6.1" and kernel.source == "fetched"
    assert finding.release_of(kernel.image) == kernel.release
    assert user.names() == [".lock", "kernels", "tools"]
    for folder in (user.data, user.data / "kernels", user.data / "kernels" / kernel.release, user.data / "tools"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(os.listdir(user.home)) == [".cache", ".local"]
    _holds_what_a_guest_needs(kernel)
    said = subprocess.run([kernels.busybox(), "echo", "it runs"], capture_output=True, text=True, check=True)
    assert said.stdout == "it runs\n"
    _comes_no_second_time(user, kernel)
    assert user.run("remove", "6.1").returncode == 0
    assert os.listdir(user.data / "kernels") == []


def _fetch_twice_at_once(user: User) -> None:
    """One fetches, the other waits and finds it there."""
    both = [user.start("fetch", "6.1") for _ in range(2)]
    said = [process.communicate(timeout=_PATIENCE_S)[1].decode() for process in both]
    if any("fetch the package lists" in each for each in said):
        pytest.skip(f"no packages can be had here: {said}")
    assert [process.returncode for process in both] == [0, 0], said
    assert sorted("unpacking" in each for each in said) == [False, True]
    assert any("waiting for another fetch" in each for each in said)
    assert len(os.listdir(user.data / "kernels")) == 1


def _holds_what_a_guest_needs(kernel: kernels.Kernel) -> None:
    listed = {}
    for line in (kernel.modules / "modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        listed[Path(path).name.split(".")[0]] = [path, *needs.split()]
    builtin = {Path(line).stem for line in (kernel.modules / "modules.builtin").read_text().splitlines()}
    for name in ("9p", "9pnet_virtio", "virtio_console", "virtio_blk", "ext4", "veth", "sch_ingress", "cls_bpf"):
        assert name in builtin or name in listed, name
    for path in {path for paths in listed.values() for path in paths}:
        assert kernels.read_module(kernel.modules / path)[:4] == b"\x7fELF"
    # The file system comes with the 9p protocol, whose module it needs.
    if "9p" in listed and "9pnet" in listed:
        assert listed["9pnet"][0] in listed["9p"]


def _comes_no_second_time(user: User, kernel: kernels.Kernel) -> None:
    before = kernel.image.stat()
    again = user.run("fetch", "6.1")
    assert again.returncode == 0
    assert f"{kernel.release} is there" in again.stderr and "unpacking" not in again.stderr
    assert kernel.image.stat() == before


def test_a_version_that_there_is_not(user: User) -> None:
    done = user.run("fetch", "6.99")
    if "fetch the package lists" in done.stderr:
        pytest.skip(f"no packages can be had here: {done.stderr}")
    assert done.returncode == 1
    assert "fetch kernel 6.99" in done.stderr and "near: " in done.stderr
    assert user.names() == [".lock"]


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("package lists", signal.SIGINT),
        ("linux-image-", signal.SIGINT),
        ("linux-image-", signal.SIGKILL),
        ("unpacking", signal.SIGKILL),
        ("indexing", signal.SIGINT),
    ],
)
def test_an_interrupted_fetch(user: User, moment: str, number: signal.Signals) -> None:
    """Ctrl-C leaves nothing; what a killed one could not remove, the next one removes. No apt goes on."""
    with user.start("fetch", "6.1") as process:
        assert process.stderr
        said = b""
        for line in process.stderr:
            said += line
            if line.startswith(moment.encode()):
                break
        else:
            pytest.skip(f"no packages can be had here: {said!r}")
        os.kill(process.pid, number)
        assert process.wait(30) == (130 if number == signal.SIGINT else -number)
    deadline = time.monotonic() + 30
    while _running_in(user.home) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _running_in(user.home) == []
    if number == signal.SIGKILL:
        assert any(name.startswith(".new-") for name in user.names())
        assert user.run("fetch", "6.99").returncode == 1
    assert user.names() == [".lock"]


def _running_in(folder: Path) -> list[str]:
    """Commands that work in a folder or name it."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if str(folder) in os.readlink(f"/proc/{pid}/cwd") or str(folder).encode() in command:
                found.append(command.replace(b"\0", b" ").decode())
        except OSError:  # it ended meanwhile
            continue
    return found


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens where the machine's sources point to."""
    from ebpf_magic.errors import FetchError
    from ebpf_magic.kernels import sources

    (tmp_path / "sources.list").write_text("deb http://127.0.0.1:9/debian bookworm main\n")
    monkeypatch.setattr(sources, "ETC_APT", tmp_path)
    monkeypatch.setattr(sources, "distribution", lambda: sources.Distribution("debian", "bookworm"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    with pytest.raises(FetchError, match=r"fetch the package lists: .*(?i:fail|connect)") as no:
        kernels.fetch("6.1")
    assert "network" in no.value.hint and "127.0.0.1" in no.value.log
    assert os.listdir(store.root()) == [".lock"]
