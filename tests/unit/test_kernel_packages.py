"""What a kernel's packages are made into: sources, files that are kept, the index of the modules."""

from __future__ import annotations

import ctypes
import gzip
import lzma
import struct
import subprocess
from pathlib import Path

import pytest

from ebpf_magic.errors import FetchError
from ebpf_magic.kernels import modules, packages, sources
from ebpf_magic.kernels.sources import Distribution, Source
from ebpf_magic.kernels.unpack import kernel_file, unpack

BOOKWORM = Distribution("debian", "bookworm")
NOBLE = Distribution("ubuntu", "noble")

LINES = """\
# deb http://a.example/debian bookworm main
deb http://a.example/debian bookworm main contrib # the archive
deb [arch=amd64 signed-by=/etc/k.gpg] http://a.example/debian-security bookworm-security main
deb-src http://a.example/debian bookworm main
deb https://tools.example bookworm main
deb https://tools.example/packages/debian bookworm tools
deb https://sql.example/debian bookworm-sql main
deb cdrom:[Debian]/debian bookworm main
"""
STANZAS = """\
Types: deb deb-src
# a comment
URIs: http://a.example/ubuntu http://b.example/ubuntu
Suites: noble noble-updates
Components: main universe
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 -----END PGP PUBLIC KEY BLOCK-----

Enabled: no
Types: deb
URIs: http://off.example/ubuntu
Suites: noble
Components: main

Types: deb
URIs: https://ppa.example/someone/ubuntu-tools
Suites: noble
Components: main
"""


def machine_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **files: str) -> None:
    (tmp_path / "sources.list.d").mkdir()
    for name, text in files.items():
        (tmp_path / "sources.list.d" / name.replace("_", ".")).write_text(text)
    monkeypatch.setattr(sources, "ETC_APT", tmp_path)


def test_only_the_distributions_own_sources_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine_with(tmp_path, monkeypatch, own_list=LINES, off_list_disabled=LINES.replace("a.example", "off.example"))
    (tmp_path / "sources.list").write_text("deb http://c.example/debian bookworm/updates main\n")
    assert [(source.uri, source.suite) for source in sources.of_machine(BOOKWORM)] == [
        ("http://c.example/debian", "bookworm/updates"),
        ("http://a.example/debian", "bookworm"),
        ("http://a.example/debian-security", "bookworm-security"),
        ("http://a.example/debian", "bookworm-backports"),
    ]


def test_stanzas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine_with(tmp_path, monkeypatch, own_sources=STANZAS)
    assert [(source.uri, source.suite) for source in sources.of_machine(NOBLE)] == [
        (f"http://{host}.example/ubuntu", suite) for host in "ab" for suite in ("noble", "noble-updates")
    ]


def test_another_release_of_the_same_mirror() -> None:
    assert Source("u", "trixie", ("main",)).of("bookworm").suite == "bookworm"
    assert Source("u", "trixie-security", ("main",)).of("bookworm").suite == "bookworm-security"
    assert Source("u", "stable-updates", ("main",)).kind == "updates"


def test_signatures_are_held_to_the_distributions_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "KEYRINGS", tmp_path)
    (tmp_path / "debian-archive-keyring.gpg").touch()
    made = sources.as_stanzas(sources.parse_lines(LINES)[:2], BOOKWORM, "arm64")
    assert made.count(f"Signed-By: {tmp_path}/debian-archive-keyring.gpg") == 2
    assert made.count("Components: main\n") == 2 and made.count("Architectures: arm64\n") == 2
    assert "trusted" not in made.lower()


@pytest.mark.parametrize("file", ["own.sources", "own.list"])
def test_an_unsigned_archive_is_refused(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive that its machine's owner trusts blindly: apt itself would take it."""
    archive = tmp_path / "debian" / "dists" / "bookworm"
    (archive / "main" / "binary-amd64").mkdir(parents=True)
    (archive / "main" / "binary-amd64" / "Packages").write_text("Package: linux-image-6.1.0-1-amd64\nVersion: 1\n")
    (archive / "Release").write_text("Suite: bookworm\nCodename: bookworm\n")
    stanza = f"Types: deb\nURIs: file:{tmp_path}/debian\nSuites: bookworm\nComponents: main\nTrusted: yes\n"
    line = f"deb [trusted=yes] file:{tmp_path}/debian bookworm main\n"
    machine_with(tmp_path, monkeypatch, **{file.replace(".", "_"): stanza if file == "own.sources" else line})
    monkeypatch.setattr(sources, "distribution", lambda: BOOKWORM)
    work = tmp_path / "work"
    work.mkdir()
    found = packages.Packages(work, lambda text, part: None)
    assert found.names("^linux-image") == []
    assert "is not signed" in str(found.no_lists())


def test_a_system_whose_packages_are_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "distribution", lambda: None)
    with pytest.raises(FetchError, match=r"neither Debian nor Ubuntu.*\n.*path of its vmlinuz"):
        packages.Packages(tmp_path, lambda text, part: None)
    machine_with(tmp_path, monkeypatch, own_sources=STANZAS)
    monkeypatch.setattr(sources, "distribution", lambda: BOOKWORM)
    with pytest.raises(FetchError, match="names no source of debian's own packages for bookworm"):
        packages.Packages(tmp_path, lambda text, part: None)


def test_without_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine_with(tmp_path, monkeypatch, own_list=LINES)
    monkeypatch.setattr(sources, "distribution", lambda: BOOKWORM)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(FetchError, match="the command dpkg is missing"):
        packages.Packages(tmp_path, lambda text, part: None)


def test_what_apt_complains_about_in_a_line() -> None:
    log = "Get:1 x\nErr:2 http://a\n  Connection failed\nW: first\nE: worst\nE: worst\nE: other\n"
    assert packages.complaint(log) == "worst; other"
    assert packages.complaint("W: first\nW: second\n") == "first; second"


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("boot/vmlinuz-6.1.0-50-amd64", "boot/vmlinuz-6.1.0-50-amd64"),
        ("usr/lib/modules/6.1/kernel/fs/9p/9p.ko.xz", "lib/modules/6.1/kernel/fs/9p/9p.ko.xz"),
        ("lib/modules/6.1/modules.builtin.modinfo", "lib/modules/6.1/modules.builtin.modinfo"),
        ("lib/modules/6.1/kernel/drivers/net/veth.ko", "lib/modules/6.1/kernel/drivers/net/veth.ko"),
        ("lib/modules/6.1/kernel/drivers/block/virtio_blk.ko", "lib/modules/6.1/kernel/drivers/block/virtio_blk.ko"),
        ("lib/modules/6.1/kernel/drivers/net/wireless/ath/ath.ko", None),
        ("lib/modules/6.1/kernel/sound/soundcore.ko", None),
        ("lib/modules/6.1/kernel/../../../../escape.ko", None),
        ("boot/../vmlinuz-x", None),
        ("boot/System.map-6.1.0-50-amd64", None),
        ("etc/passwd", None),
    ],
)
def test_which_files_of_a_kernel_are_kept(name: str, kept: str | None) -> None:
    assert kernel_file(name) == kept


def make_package(folder: Path, **files: bytes) -> Path:
    tree = folder / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    about = "Package: probe\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x.example>\nDescription: x\n"
    (tree / "DEBIAN" / "control").write_text(about + "Installed-Size: 4\n")
    for name, content in files.items():
        (tree / "boot").mkdir(exist_ok=True)
        (tree / "boot" / name.replace("_", "-")).write_bytes(content)
    (tree / "boot" / "vmlinuz-link").symlink_to("/etc/passwd")
    package = folder / "probe.deb"
    subprocess.run(["dpkg-deb", "--build", str(tree), str(package)], check=True, stdout=subprocess.DEVNULL)
    return package


def test_a_package_is_unpacked_file_by_file(tmp_path: Path) -> None:
    package = make_package(tmp_path, vmlinuz_1=b"image" * 1000, other=b"not wanted")
    parts: list[float] = []
    written = unpack(package, tmp_path / "out", kernel_file, parts.append)
    assert [path.relative_to(tmp_path / "out") for path in written] == [Path("boot/vmlinuz-1")]
    assert written[0].read_bytes() == b"image" * 1000
    assert [path.name for path in (tmp_path / "out" / "boot").iterdir()] == ["vmlinuz-1"]  # no link
    assert parts[-1] == 1.0 and parts == sorted(parts)


def test_a_damaged_package_is_one_error(tmp_path: Path) -> None:
    package = make_package(tmp_path, vmlinuz_1=bytes(range(256)) * 4000)
    raw = package.read_bytes()
    for damaged in (raw[: len(raw) // 2], b"", raw[:-200] + b"\0" * 200):
        package.write_bytes(damaged)
        with pytest.raises(FetchError, match=r"unpack probe\.deb"):
            unpack(package, tmp_path / f"out{len(damaged)}", lambda name: None)


def module(**about: str) -> bytes:
    """A module that is nothing but its .modinfo section."""
    info = b"\0".join(f"{key}={value}".encode() for key, value in about.items()) + b"\0"
    names = b"\0.modinfo\0.shstrtab\0"
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 1, 62, 1, 0, 0, 64, 0, 64, 0, 0, 64, 3, 2)
    body_at = 64 + 3 * 64
    sections = struct.pack("<IIQQQQIIQQ", *[0] * 10)
    sections += struct.pack("<IIQQQQIIQQ", 1, 1, 0, 0, body_at, len(info), 0, 0, 1, 0)
    sections += struct.pack("<IIQQQQIIQQ", 10, 3, 0, 0, body_at + len(info), len(names), 0, 0, 1, 0)
    return header + sections + info + names


def zstd(raw: bytes) -> bytes:
    library = ctypes.CDLL("libzstd.so.1")
    library.ZSTD_compress.restype = ctypes.c_size_t
    room = ctypes.create_string_buffer(len(raw) + 1000)
    size = library.ZSTD_compress(room, ctypes.c_size_t(len(room)), raw, ctypes.c_size_t(len(raw)), 3)
    return room.raw[:size]


def test_the_index_names_all_that_a_module_needs(tmp_path: Path) -> None:
    folder = tmp_path / "6.1"
    (folder / "kernel" / "net").mkdir(parents=True)
    kernel = folder / "kernel"
    (kernel / "net" / "top-most.ko").write_bytes(module(depends="middle,other", alias="fs-top"))
    (kernel / "middle.ko.xz").write_bytes(lzma.compress(module(depends="bottom")))
    (kernel / "bottom.ko.gz").write_bytes(gzip.compress(module(depends="")))
    (kernel / "other.ko.zst").write_bytes(zstd(module(depends="bottom")))
    (kernel / "alone.ko").write_bytes(module(license="GPL"))
    (kernel / "lost.ko").write_bytes(module(depends="not_kept"))
    (kernel / "lost_too.ko").write_bytes(module(depends="lost"))
    modules.write_index(folder)
    lines = (folder / "modules.dep").read_text().splitlines()
    needs = {path: rest.split() for path, _, rest in (line.partition(":") for line in lines)}
    assert set(needs) == {
        "kernel/net/top-most.ko",
        "kernel/middle.ko.xz",
        "kernel/bottom.ko.gz",
        "kernel/other.ko",
        "kernel/alone.ko",
    }
    order = needs["kernel/net/top-most.ko"]  # loaded from the last to the first
    assert order[-1] == "kernel/bottom.ko.gz" and set(order[:-1]) == {"kernel/middle.ko.xz", "kernel/other.ko"}
    assert needs["kernel/alone.ko"] == []
    assert (folder / "modules.alias").read_text() == "alias fs-top top_most\n"
    assert not (kernel / "lost.ko").exists() and not (kernel / "lost_too.ko").exists()


def test_modules_that_need_each_other_end(tmp_path: Path) -> None:
    (tmp_path / "a.ko").write_bytes(module(depends="b"))
    (tmp_path / "b.ko").write_bytes(module(depends="a"))
    modules.write_index(tmp_path)
    assert (tmp_path / "modules.dep").read_text() == "a.ko: b.ko\nb.ko: a.ko\n"


def test_a_module_is_read_whatever_it_is_packed_with(tmp_path: Path) -> None:
    raw = module(depends="x") * 100
    for suffix, packed in (("", raw), (".xz", lzma.compress(raw)), (".gz", gzip.compress(raw)), (".zst", zstd(raw))):
        path = tmp_path / f"m.ko{suffix}"
        path.write_bytes(packed)
        assert modules.read_module(path) == raw
        if suffix:
            path.write_bytes(packed[: len(packed) // 2])
            with pytest.raises(ValueError, match="damaged"):
                modules.read_module(path)
    path.write_bytes(b"no zstd at all")
    with pytest.raises(ValueError, match="zstd"):
        modules.read_module(path)
