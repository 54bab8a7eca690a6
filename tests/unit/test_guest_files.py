"""The guest's files: archives, modules in their order, unpacked kernels; all made of bytes written here."""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpf_magic.errors import NoHostError
from ebpf_magic.hosts.guest import image, initramfs, modules
from ebpf_magic.hosts.guest.cpio import Archive
from ebpf_magic.hosts.guest.shares import Root, Share
from ebpf_magic.kernels import Kernel

RELEASE = "6.1.0-1-test"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def entries(data: bytes) -> Iterator[tuple[str, int, bytes]]:
    """Name, mode and content of every entry, by the kernel's description of the format."""
    at = 0
    while at < len(data):
        assert data[at : at + 6] == b"070701"
        numbers = [int(data[at + 6 + 8 * index : at + 14 + 8 * index], 16) for index in range(13)]
        mode, size, name_size = numbers[1], numbers[6], numbers[11]
        name = data[at + 110 : at + 110 + name_size - 1].decode("utf-8", "surrogateescape")
        start = (at + 110 + name_size + 3) // 4 * 4
        if name == "TRAILER!!!":
            assert data[start:].strip(b"\0") == b""
            return
        yield name, mode, data[start : start + size]
        at = (start + size + 3) // 4 * 4
    raise AssertionError("no trailer")


def content(data: bytes) -> dict[str, bytes]:
    return {name: text for name, _, text in entries(data)}


NAMES = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=20)


@given(st.dictionaries(NAMES.filter(lambda name: name not in (".", "..")), st.binary(max_size=50), max_size=8))
def test_what_goes_in_comes_out(files: dict[str, bytes]) -> None:
    archive = Archive()
    for name, text in files.items():
        archive.file(f"folder/{name}", text)
    found = list(entries(archive.data()))
    assert {name: text for name, mode, text in found if stat.S_ISREG(mode)} == {
        f"folder/{name}": text for name, text in files.items()
    }
    assert len(archive.data()) % 512 == 0


def test_folders_come_before_what_is_in_them_and_once() -> None:
    archive = Archive()
    archive.file("/a/b/c", b"text", 0o755)
    archive.link("a/b/link", "../c")
    archive.folder("a")
    found = [(name, oct(mode)) for name, mode, _ in entries(archive.data())]
    assert found == [("a", "0o40755"), ("a/b", "0o40755"), ("a/b/c", "0o100755"), ("a/b/link", "0o120777")]


def kernel(tmp_path: Path, dep: str, builtin: str = "") -> Kernel:
    folder = tmp_path / "lib/modules" / RELEASE
    folder.mkdir(parents=True)
    (folder / "modules.dep").write_text(dep)
    (folder / "modules.builtin").write_text(builtin)
    picture = tmp_path / "vmlinuz"
    picture.write_bytes(b"no kernel")
    return Kernel(RELEASE, "6.1", picture, folder, "path")


DEP = """\
kernel/fs/9p/9p.ko.xz: kernel/fs/netfs/netfs.ko.xz kernel/net/9p/9pnet.ko.xz
kernel/fs/netfs/netfs.ko.xz:
kernel/net/9p/9pnet.ko.xz:
kernel/net/9p/9pnet_virtio.ko.xz: kernel/drivers/virtio/virtio_ring.ko kernel/net/9p/9pnet.ko.xz
kernel/drivers/virtio/virtio_ring.ko:
kernel/crypto/crc32c-generic.ko:
"""


def test_modules_are_loaded_after_what_they_need(tmp_path: Path) -> None:
    known = modules.Modules(kernel(tmp_path, DEP))
    names = [modules.name_of(path.name) for path in known.order(("9pnet_virtio", "9p", "no_such_module"))]
    assert names == ["9pnet", "virtio_ring", "9pnet_virtio", "netfs", "9p"]
    assert [modules.name_of(path.name) for path in known.order(("crc32c_generic",))] == ["crc32c_generic"]


@pytest.mark.parametrize(
    ("dep", "builtin", "problem"),
    [
        ("kernel/a.ko:\n", "", "no 9p file system"),
        (DEP, "", "no virtio-serial ports"),
        (DEP, "kernel/drivers/char/virtio_console.ko\n", ""),
        ("", "", ""),
    ],
)
def test_a_kernel_without_9p_is_refused(tmp_path: Path, dep: str, builtin: str, problem: str) -> None:
    known = modules.Modules(kernel(tmp_path, dep, builtin))
    if not problem:
        known.check()
        return
    with pytest.raises(NoHostError, match=f"{RELEASE}.*{problem}"):
        known.check()


def test_a_signature_is_cut_off() -> None:
    signature = b"s" * 300
    signed = b"\x7fELF module" + signature + struct.pack(">8xI", len(signature)) + b"~Module signature appended~\n"
    assert modules.unsigned(signed) == b"\x7fELF module"
    assert modules.unsigned(b"\x7fELF module") == b"\x7fELF module"
    assert modules.unsigned(struct.pack(">8xI", 1 << 30) + b"~Module signature appended~\n") == b""


def test_the_archive_of_a_kernel_is_made_once(tmp_path: Path) -> None:
    found = kernel(tmp_path, DEP, "kernel/drivers/char/virtio_console.ko\n")
    for line in DEP.splitlines():
        path = found.modules / line.partition(":")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(lzma.compress(b"module") if path.suffix == ".xz" else b"module")
    busybox = tmp_path / "busybox"
    busybox.write_bytes(b"static")
    assert f"boot/config-{RELEASE}" not in content(initramfs.base(found, busybox))
    found.image.with_name(f"config-{RELEASE}").write_bytes(b"CONFIG_HZ=250\n")
    made = initramfs.base(found, busybox)
    files = content(made)
    assert files[f"boot/config-{RELEASE}"] == b"CONFIG_HZ=250\n"
    assert files["ebpf_magic/bin/busybox"] == b"static"
    assert files["ebpf_magic/modules/9p.ko"] == b"module"
    assert files["ebpf_magic/modules.first"].split() == [
        b"9pnet.ko", b"virtio_ring.ko", b"9pnet_virtio.ko", b"netfs.ko", b"9p.ko",
    ]  # fmt: skip
    for path in found.modules.rglob("*.xz"):
        path.unlink()
    assert initramfs.base(found, busybox) == made


def test_a_module_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    found = kernel(tmp_path, DEP, "kernel/drivers/char/virtio_console.ko\n")
    (tmp_path / "busybox").write_bytes(b"static")
    with pytest.raises(NoHostError, match=r"9pnet.ko.xz cannot be read.*\n.*`make modules_install`"):
        initramfs.base(found, tmp_path / "busybox")
    fetched = replace(found, source="fetched")
    # To fetch alone would find the kernel there.
    with pytest.raises(NoHostError, match=f"`ebpf-magic kernel remove {RELEASE}`, then `ebpf-magic kernel fetch"):
        initramfs.base(fetched, tmp_path / "busybox")


def test_words_for_the_guest_stay_words(tmp_path: Path) -> None:
    share = str(tmp_path / "$(reboot) 'a' ; b")
    root = Root([Share("/usr"), Share(share, fresh=True)], {"/bin": "usr/bin"}, python="/no/such/python")
    files = content(initramfs.boot(root, tmp_path, "vm", None, has_scratch=True))
    assert files["ebpf_magic/shares"].decode().splitlines() == ["loose", "/usr", "none", share]
    assert files["bin"] == b"usr/bin"
    assert share.lstrip("/") in files
    assert files["ebpf_magic/agent"].decode().splitlines()[0] == "/no/such/python"
    assert "ebpf_magic/scratch" in files
    assert files["etc/passwd"].startswith(b"root:x:0:0:")
    assert "etc/shadow" not in files


def bzimage(payload: bytes) -> bytes:
    head = bytearray(1024)
    head[0x1F1] = 1
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", head, 0x248, 100, len(payload))
    return bytes(head) + bytes(100) + payload + b"more"


def vmlinux(kind: int = 18, name: bytes = b"Xen\0") -> bytes:
    other = struct.pack("<III", 4, 4, 1) + b"GNU\0" + b"1234"
    notes = other + struct.pack("<III", len(name), 4, kind) + name + b"\0\0\1\0"
    head = b"\x7fELF\x02\x01".ljust(32, b"\0") + struct.pack("<Q", 64) + bytes(14) + struct.pack("<HH", 56, 1)
    head = head.ljust(64, b"\0")
    return head + struct.pack("<I4xQ16xQ", 4, 120, len(notes)).ljust(56, b"\0") + notes + bytes(5000)


@pytest.mark.parametrize(
    "pack", [lzma.compress, gzip.compress, bz2.compress, lambda data: lzma.compress(data, lzma.FORMAT_ALONE)]
)
def test_a_kernel_is_unpacked(pack: object) -> None:
    size = struct.pack("<I", len(vmlinux()))
    assert image.unpack(bzimage(pack(vmlinux()) + size)) == vmlinux()  # type: ignore[operator]


def test_what_does_not_start_by_itself_is_left_packed() -> None:
    assert image.unpack(bzimage(lzma.compress(vmlinux(kind=17)))) is None
    assert image.unpack(bzimage(lzma.compress(vmlinux(name=b"Yen\0")))) is None
    assert image.unpack(bzimage(lzma.compress(b"no kernel"))) is None
    assert image.unpack(b"MZ" + bytes(1000)) is None


@given(st.binary(max_size=300), st.integers(0, 4000))
def test_a_damaged_kernel_is_left_to_itself(damage: bytes, at: int) -> None:
    for payload in (lzma.compress(vmlinux()), b"\x28\xb5\x2f\xfd" + bytes(100), vmlinux()):
        damaged = bytearray(bzimage(payload))
        damaged[at : at + len(damage)] = damage
        assert isinstance(image.unpack(bytes(damaged)), (bytes, type(None)))


@pytest.mark.parametrize("length", [0x206, 0x210, 0x24C, 1024])
def test_a_kernel_cut_short_is_left_to_itself(length: int) -> None:
    assert image.unpack(bzimage(lzma.compress(vmlinux()))[:length]) is None
    assert image.unpack(bzimage(lzma.compress(vmlinux()[:20]))) is None


def test_the_unpacked_kernel_is_kept_and_made_anew_with_another_image(tmp_path: Path) -> None:
    found = kernel(tmp_path, "")
    found.image.write_bytes(bzimage(lzma.compress(vmlinux())))
    first = image.fastest(found)
    assert first.read_bytes() == vmlinux()
    assert image.fastest(found) == first
    found.image.write_bytes(bzimage(b"something else"))
    assert image.fastest(found) == found.image


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    found = kernel(tmp_path, "")
    found.image.unlink()
    with pytest.raises(NoHostError, match="vmlinuz cannot be read"):
        image.fastest(found)
