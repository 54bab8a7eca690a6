"""Kernels found, kept and removed: a data folder of the test's own, kernel images of a few bytes."""

from __future__ import annotations

import io
import os
import platform
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from ebpf_magic import kernel_command, kernels
from ebpf_magic.cli import main
from ebpf_magic.doctor import _virtual_machines
from ebpf_magic.errors import FetchError, NoKernelError
from ebpf_magic.kernels import fetching, finding, store, tools
from ebpf_magic.kernels.sources import Distribution

OLD, NEW, NEXT = "6.1.0-9-amd64", "6.1.0-50-amd64", "6.12.117+deb12-amd64"


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any kernel that can be read, and a user who has fetched none."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(finding, "BOOT", tmp_path / "boot")
    monkeypatch.setattr(finding, "MODULES", tmp_path / "modules")
    return tmp_path


def bzimage(release: str) -> bytes:
    """The head of an x86 kernel image, as far as its release needs it."""
    head = bytearray(1024)
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x20E, 0x300 - 0x200)
    head[0x300:] = f"{release} (someone@somewhere) #1 SMP\0".encode().ljust(0x100, b"\0")
    return bytes(head)


def put_fetched(*releases: str) -> None:
    for release in releases:
        kernel = store.kernel_in(store.kernel_folder(release), release)
        kernel.modules.mkdir(parents=True)
        kernel.image.parent.mkdir()
        kernel.image.write_bytes(bzimage(release))


def put_on_machine(machine: Path, release: str) -> Path:
    image = machine / "boot" / f"vmlinuz-{release}"
    modules = machine / "modules" / release
    image.parent.mkdir(exist_ok=True)
    modules.mkdir(parents=True)
    image.write_bytes(bzimage(release))
    (modules / "modules.dep").touch()
    return image


@pytest.mark.parametrize(
    ("wanted", "found"), [("6.1", NEW), ("6.12", NEXT), (OLD, OLD), ("6.1.0-9", OLD), (None, NEXT), ("6.12.117", NEXT)]
)
def test_a_series_means_its_newest_release(wanted: str | None, found: str) -> None:
    put_fetched(OLD, NEXT, NEW)
    kernel = kernels.find(wanted)
    assert (kernel.release, kernel.source) == (found, "fetched")
    assert kernel.image.name == f"vmlinuz-{found}"
    assert kernel.modules.name == found


@pytest.mark.parametrize("length", [0x206, 0x20F, 0x300])
def test_an_image_cut_short_is_no_kernel(machine: Path, length: int) -> None:
    image = machine / "vmlinuz"
    image.write_bytes(bzimage(NEW)[:length])
    with pytest.raises(NoKernelError, match="no bootable kernel image"):
        kernels.find(image)


def test_a_folder_of_another_user_stays_as_it_is(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = machine / "data" / "ebpf_magic"
    theirs.mkdir(parents=True, mode=0o755)
    theirs.chmod(0o755)
    monkeypatch.setattr(os, "getuid", lambda: theirs.stat().st_uid + 1)
    with pytest.raises(FetchError, match="another user"):
        store.make_folder("kernels")
    assert stat.S_IMODE(theirs.stat().st_mode) == 0o755


def test_a_prefix_of_a_number_is_no_series() -> None:
    put_fetched(NEXT)
    with pytest.raises(NoKernelError) as no:
        kernels.find("6.1")
    assert "ebpf-magic kernel fetch 6.1" in str(no.value)
    assert "6.12" in no.value.near


def test_nothing_fetched_says_how_to(machine: Path) -> None:
    assert kernels.listed() == [] and kernels.available() == []
    with pytest.raises(NoKernelError, match="ebpf-magic kernel fetch"):
        kernels.find()
    assert not (machine / "data").exists()  # looking leaves nothing


def test_what_was_fetched_comes_before_the_machines_own(machine: Path) -> None:
    put_on_machine(machine, "6.18.1-64")
    assert kernels.find().source == "machine"
    put_fetched(NEW)
    assert kernels.find().release == NEW
    assert kernels.find("6.18").source == "machine"
    assert kernels.available() == ["6.1", "6.18"]


def test_an_image_that_may_not_be_read_is_named(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = put_on_machine(machine, "6.8.0-45-generic")
    monkeypatch.setattr(os, "access", lambda path, mode: path != image)  # root may read everything
    with pytest.raises(NoKernelError, match="may not read it"):
        kernels.find("6.8")


def test_an_unfinished_kernel_is_none() -> None:
    put_fetched(NEW)
    kernels.find(NEW).image.unlink()
    assert kernels.listed() == []


def test_a_kernel_by_path(machine: Path) -> None:
    image = machine / "own" / "bzImage"
    modules = machine / "own" / "lib/modules/6.18.0-mine"
    modules.mkdir(parents=True)
    image.write_bytes(bzimage("6.18.0-mine"))
    with pytest.raises(NoKernelError, match=r"modules\.dep of 6\.18\.0-mine is not in .*\n.*INSTALL_MOD_PATH") as no:
        kernels.find(image)
    assert str(modules) in str(no.value)
    (modules / "modules.dep").touch()
    assert kernels.find(str(image)) == kernels.Kernel("6.18.0-mine", "6.18", image, modules, "path")


def test_images_say_their_release(tmp_path: Path) -> None:
    arm = tmp_path / "Image"
    arm.write_bytes(b"MZ".ljust(0x38, b"\0") + b"ARM\x64" + b"\0" * 100 + b"Linux version 6.1.0-50-arm64 (x@y)\n")
    assert finding.release_of(arm) == "6.1.0-50-arm64"
    packed = tmp_path / "vmlinuz-6.12.1-arm64"
    packed.write_bytes(b"MZ\0\0zimg" + b"\0" * 100)
    assert finding.release_of(packed) == "6.12.1-arm64"


@pytest.mark.parametrize("content", [b"", b"\x7fELF" + b"\0" * 2000, b"HdrS" * 300])
def test_a_file_that_is_no_kernel(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(content)
    with pytest.raises(NoKernelError, match="no bootable kernel image"):
        kernels.find(path)


def test_a_path_to_nothing(tmp_path: Path) -> None:
    with pytest.raises(NoKernelError, match="No such file"):
        kernels.find(tmp_path / "none")


def test_remove() -> None:
    put_fetched(OLD, NEW, NEXT)
    with pytest.raises(NoKernelError, match="say which") as several:
        kernels.remove("6.1")
    assert several.value.near == [NEW, OLD]
    assert kernels.remove(OLD).release == OLD
    assert kernels.remove("6.1").release == NEW
    with pytest.raises(NoKernelError, match="was not fetched"):
        kernels.remove("6.1")
    assert sorted(os.listdir(store.root())) == [".lock", "kernels"]
    assert os.listdir(store.root() / "kernels") == [NEXT]


def test_the_folder_is_this_users_alone(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine / "data" / "ebpf_magic").mkdir(parents=True)
    (machine / "data" / "ebpf_magic").chmod(0o755)
    made = store.make_folder("kernels")
    assert [stat.S_IMODE(path.stat().st_mode) for path in (made, made.parent)] == [0o700, 0o700]
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    with pytest.raises(FetchError, match="another user"):
        store.make_folder("kernels")


def test_a_folder_that_cannot_be_made(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine / "file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(machine / "file"))
    with pytest.raises(FetchError, match="XDG_DATA_HOME names another place"):
        kernels.fetch("6.1")


def test_what_a_killed_fetch_left_is_removed_by_the_next() -> None:
    left = store.make_folder() / ".new-left" / "cache"
    left.mkdir(parents=True)
    with store.locked(), store.workplace() as work:
        assert not left.parent.exists()
        assert work.exists()
    assert os.listdir(store.root()) == [".lock"]


def test_one_fetch_waits_for_another() -> None:
    program = "from ebpf_magic.kernels import store\nwith store.locked():\n    print('held', flush=True)\n    input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin and other.stdout
        assert other.stdout.readline() == b"held\n"
        release, said = other.stdin, []

        def let_go() -> None:
            said.append("waiting")
            release.write(b"\n")
            release.flush()

        with store.locked(let_go):
            assert said == ["waiting"]


def test_a_full_disk_is_one_error_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(work: Path, report: object) -> None:
        (work / "half").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetching, "Packages", fill)
    with pytest.raises(FetchError, match="the disk is full") as full:
        kernels.fetch("6.1")
    assert full.value.errno == 28
    assert os.listdir(store.root()) == [".lock"]


def test_too_little_room_is_refused_before_anything_is_fetched() -> None:
    store.make_folder()
    with pytest.raises(FetchError, match=r"needs 1000000 MB .* MB are free"):
        fetching._check_room("linux-image-x", {"Size": str(1_000_000 << 20), "Installed-Size": "0"})


@pytest.mark.parametrize("wanted", ["", "6", "../6.1", "6.1/..", "linux", "6.1 6.12", "-6.1"])
def test_what_is_no_version_is_not_looked_for(wanted: str, machine: Path) -> None:
    with pytest.raises(NoKernelError, match="no version"):
        kernels.fetch(wanted)
    assert not (machine / "data").exists()


class FakePackages:
    """Package lists of the test's own."""

    def __init__(self, names: list[str], trouble: str = "") -> None:
        self.system = Distribution("debian", "bookworm")
        self.architecture = "amd64"
        self.trouble = trouble
        self.looked_into: list[str] = []
        self._names = names

    def names(self, pattern: str) -> list[str]:
        return self._names

    def add_release(self, codename: str) -> None:
        self.looked_into.append(codename)
        self._names = [*self._names, "linux-image-5.10.0-46-amd64"]

    def no_lists(self) -> FetchError:
        return FetchError("fetch the package lists", self.trouble)


NAMES = [
    "linux-image-6.1.0-9-amd64",
    "linux-image-6.1.0-50-amd64",
    "linux-image-6.1.0-51-amd64-unsigned",
    "linux-image-6.1.0-50-cloud-amd64",
    "linux-image-6.1.0-50-rt-amd64",
    "linux-image-6.1.0-50-amd64-dbg",
    "linux-image-6.12-amd64",
    "linux-image-6.12.90+deb12.1-amd64",
    "linux-image-6.12.117+deb12-amd64",
    "linux-image-amd64",
]


@pytest.mark.parametrize(
    ("wanted", "release"), [("6.1", NEW), ("6.12", NEXT), (OLD, OLD), ("6.12.90", "6.12.90+deb12.1-amd64")]
)
def test_the_newest_package_with_9p_is_chosen(wanted: str, release: str) -> None:
    packages = FakePackages(NAMES)
    assert fetching._choose(wanted, packages) == (f"linux-image-{release}", release)  # type: ignore[arg-type]
    assert packages.looked_into == []


def test_another_release_of_the_distribution_is_looked_into_when_it_has_the_series() -> None:
    packages = FakePackages(NAMES)
    assert fetching._choose("5.10", packages)[1] == "5.10.0-46-amd64"  # type: ignore[arg-type]
    assert packages.looked_into == ["bullseye"]


def test_a_version_that_no_package_has() -> None:
    with pytest.raises(NoKernelError, match="bookworm has no such package") as no:
        fetching._choose("6.7", FakePackages(NAMES))  # type: ignore[arg-type]
    assert no.value.near == ["6.1", "6.12"]


def test_lists_that_could_not_be_had_are_not_taken_for_an_unknown_version() -> None:
    with pytest.raises(FetchError, match="Could not resolve"):
        fetching._choose("6.1", FakePackages([], "Could not resolve"))  # type: ignore[arg-type]


def test_libbpf_is_used_only_where_it_is_newer(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = store.make_folder("tools")
    assert kernels.libbpf() is None
    (folder / "libbpf.so.1.4.6").touch()
    for system, path in (
        ((1, 1), folder / "libbpf.so.1.4.6"),
        ((1, 4), None),
        ((1, 10), None),
        ((0, 0), folder / "libbpf.so.1.4.6"),
    ):
        monkeypatch.setattr(tools, "system_libbpf", lambda system=system: system)
        assert kernels.libbpf() == path


@pytest.mark.parametrize(
    ("package", "version"), [("1:1.4.6-1~bpo12+1", (1, 4)), ("1:1.1.2-0+deb12u1", (1, 1)), ("", (0, 0))]
)
def test_a_packages_libbpf_version(package: str, version: tuple[int, int]) -> None:
    assert tools.libbpf_version(package) == version


def test_a_busybox_that_needs_libraries_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    busybox = store.make_folder("tools") / "busybox"
    busybox.write_bytes(Path(sys.executable).resolve().read_bytes())
    busybox.chmod(0o700)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NoKernelError, match="kernel fetch tools"):
        kernels.busybox()


def test_the_doctor_tells_what_a_virtual_machine_lacks(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    qemu = machine / "bin" / f"qemu-system-{platform.machine()}"
    qemu.parent.mkdir()
    monkeypatch.setenv("PATH", str(qemu.parent))
    rows = {check: (ok, mend) for check, ok, _, mend in _virtual_machines()}
    assert set(rows) == {"qemu", "kernels", "busybox"}
    for ok, mend in rows.values():
        assert not ok and ("apt install qemu" in mend or "ebpf-magic kernel fetch" in mend)
    qemu.write_text("#!/bin/sh\necho QEMU emulator version 7.2.22 '(Debian)'\n")
    qemu.chmod(0o755)
    put_fetched(NEW)
    found = {check: (ok, found) for check, ok, found, _ in _virtual_machines()}
    assert found["qemu"] == (True, f"7.2.22 ({qemu})")
    assert found["kernels"] == (True, f"{NEW} (fetched)")
    assert found["acceleration"][0] and "kvm" in found["acceleration"][1]


def test_the_command_lists_and_removes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kernel", "list"]) == 0
    assert "ebpf-magic kernel fetch 6.1" in capsys.readouterr().out
    put_fetched(NEW, NEXT)
    assert main(["kernel", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[:2]] == [["6.12", NEXT, "fetched"], ["6.1", NEW, "fetched"]]
    assert main(["kernel", "remove", "6.1"]) == 0
    assert NEW in capsys.readouterr().out
    assert main(["kernel", "remove", "6.1"]) == 1
    assert "was not fetched" in capsys.readouterr().err


def test_the_command_fetches(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fetch(wanted: list[str], progress: kernels.Progress) -> list[kernels.Kernel]:
        progress("package lists", 0.5)
        put_fetched(*wanted)
        return [kernels.find(each) for each in wanted]

    monkeypatch.setattr(kernels, "fetch_several", fetch)
    assert main(["kernel", "fetch", NEW, NEXT, NEW]) == 0
    said = capsys.readouterr()
    assert said.err == "package lists\n"
    assert [line.split(",")[0] for line in said.out.splitlines()] == [f"kernel {NEW}", f"kernel {NEXT}"]


def test_an_interrupted_fetch_is_not_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(wanted: list[str], progress: kernels.Progress) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(kernels, "fetch_several", interrupted)
    assert main(["kernel", "fetch", "6.1"]) == 130
    assert "interrupted" in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    terminal = Terminal()
    bar = kernel_command.Bar(terminal)
    for part in (0.0, 0.5, 1.0):
        bar("unpacking " + "x" * 100, part)
    bar("next", 0.0)
    bar.close()
    bar.close()
    first, second, end = terminal.getvalue().split("\n")
    assert end == ""
    drawn = first.split("\r\x1b[K")[1:]
    assert drawn[0].startswith("[" + " " * 24 + "]   0% unpacking") and drawn[-1].startswith("[" + "#" * 24 + "] 100%")
    assert all(len(line) < 60 for line in drawn)
    assert "next" in second


def test_the_bar_elsewhere_is_a_line_for_each_step() -> None:
    file = io.StringIO()
    bar = kernel_command.Bar(file)
    for part in (0.0, 0.2, 1.0):
        bar("package lists", part)
    bar("linux-image", 0.0)
    bar.close()
    assert file.getvalue() == "package lists\nlinux-image\n"
