"""The guest's first files: an archive per kernel (modules, busybox), kept, and a small one per boot."""

from __future__ import annotations

import shlex
import sysconfig
from pathlib import Path

from ebpf_magic import cache
from ebpf_magic.errors import NoHostError
from ebpf_magic.hosts.guest import bundle, modules
from ebpf_magic.hosts.guest.cpio import Archive
from ebpf_magic.hosts.guest.etc import add_etc
from ebpf_magic.hosts.guest.shares import Root
from ebpf_magic.kernels import Kernel, read_module

_INIT = Path(__file__).with_name("init")
_HERE = "ebpf_magic"
# Lines for `ip -batch`: starting it once a line would take a tenth of a second each.
_NETWORK = [
    "link set lo up",
    "link add veth0 type veth peer name veth1 netns peer",
    "addr add 10.0.0.1/24 dev veth0",
    "link set veth0 up",
]
_PEER = ["link set lo up", "addr add 10.0.0.2/24 dev veth1", "link set veth1 up"]
# What init calls; busybox's shell finds most of them in itself, but not every build of it does.
_APPLETS = "sh cat mount insmod mkdir ln ip poweroff sync usleep cp switch_root"
# What is there is not fetched once more.
_WAYS_OUT = {
    "fetched": "Fetch it anew: `ebpf-magic kernel remove {release}`, then `ebpf-magic kernel fetch {release}`.",
    "machine": "A kernel of the distribution can be fetched, without root: `ebpf-magic kernel fetch 6.1`.",
    "path": "`make modules_install` in the kernel's source brings its modules.",
}
_BUNDLE = f"{_HERE}/bundle"
_LIBBPF = f"{_HERE}/libbpf.so.1"


def base(kernel: Kernel, busybox: Path) -> bytes:
    """Return the archive of a kernel: its modules, its settings, busybox and init; made once, then from the cache.

    Raises
    ------
    NoHostError
        A file cannot be read, or the kernel lacks what the guest needs.
    """
    try:
        files = [kernel.image, kernel.modules / "modules.dep", busybox, *_config(kernel)]
        facts = [_about(path) for path in files]
        init = _INIT.read_bytes()
        key = cache.digest(init, *facts, str(kernel.modules), *modules.FIRST, *modules.SECOND, *modules.IMAGE)
        made = cache.get("initramfs", key)
        if made is None:
            made = _make_base(kernel, busybox, init)
            cache.put("initramfs", key, made)
    except OSError as error:
        raise NoHostError(
            f"boot kernel {kernel.release}",
            f"{error.filename} cannot be read: {error.strerror}",
            _WAYS_OUT[kernel.source].format(release=kernel.release),
        ) from error
    return made


def boot(root: Root, package: Path, name: str, libbpf: Path | None, has_scratch: bool) -> bytes:
    """Return the archive of one boot: what to share, what to start, and the folders and /etc of the guest.

    Parameters
    ----------
    root : Root
        The files it runs on.
    package : Path
        The folder of ebpf_magic.
    name : str
        The guest's host name.
    libbpf : Path, optional
        A libbpf for the agent that is not the system's.
    has_scratch : bool
        Whether a disk for /scratch comes with it.
    """
    archive = Archive()
    archive.folder(".")  # the root itself, which is as open as /tmp otherwise
    archive.folder("dev")
    archive.device("dev/console", 5, 1)
    for path in ("proc", "sys", "run", "var/tmp", "var/log", "var/lib", "scratch", "mnt", "home", "opt", "srv"):
        archive.folder(path)
    archive.folder("tmp", 0o1777)
    archive.folder("root", 0o700)
    archive.link("var/run", "/run")
    archive.link("init", f"/{_HERE}/init")
    for link, target in root.links.items():
        archive.link(link, target)
    for share in root.shares:
        archive.folder(share.path)
    lines = [line for share in root.shares for line in ("none" if share.fresh else "loose", share.path)]
    archive.file(f"{_HERE}/shares", _text(lines))
    made = None if root.image else bundle.collect(root.python, package)
    if made is not None:
        archive.file(_BUNDLE, made.code)
        archive.file(f"{_HERE}/warm", _text(made.mapped))
    archive.file(f"{_HERE}/start.py", bundle.START.encode())
    start = [root.python, "-I", "-S", "-B", f"/{_HERE}/start.py", str(package), f"/{_BUNDLE}" if made else ""]
    if libbpf is not None:
        archive.file(_LIBBPF, libbpf.read_bytes(), 0o755)
        start.append(f"/{_LIBBPF}")
    archive.file(f"{_HERE}/agent", _text(start))
    archive.file(f"{_HERE}/commands/ebpf-magic", _command(root.python, package), 0o755)
    archive.file(f"{_HERE}/network", _text(_NETWORK))
    archive.file(f"{_HERE}/peer", _text(_PEER))
    if has_scratch:
        archive.file(f"{_HERE}/scratch", b"")
    if root.image:
        archive.file(f"{_HERE}/image", b"")
    add_etc(archive, name)
    return archive.data()


def _command(python: str, package: Path) -> bytes:
    """Return what `ebpf-magic` is in a guest: the work at once, without the seconds that an environment takes there."""
    work = shlex.join([python, "-I", "-S", str(package / "workload.py")])
    other = shlex.quote(f"{sysconfig.get_path('scripts')}/ebpf-magic")
    return f'#!/bin/sh\n[ "$1" != workload ] || {{ shift; exec {work} "$@"; }}\nexec {other} "$@"\n'.encode()


def _make_base(kernel: Kernel, busybox: Path, init: bytes) -> bytes:
    known = modules.Modules(kernel)
    known.check()
    archive = Archive()
    archive.file(f"{_HERE}/init", init, 0o755)
    archive.file(f"{_HERE}/bin/busybox", busybox.read_bytes(), 0o755)
    for applet in _APPLETS.split():
        archive.link(f"{_HERE}/bin/{applet}", "busybox")
    for config in _config(kernel):
        archive.folder("boot")
        archive.file(f"boot/config-{kernel.release}", config.read_bytes())
    done: set[str] = set()
    for stage, wanted in (("first", modules.FIRST), ("second", modules.SECOND), ("image", modules.IMAGE)):
        new = {f"{modules.name_of(path.name)}.ko": path for path in known.order(wanted)}
        for name in [name for name in new if name not in done]:
            archive.file(f"{_HERE}/modules/{name}", _module(new[name]))
        done.update(new)
        archive.file(f"{_HERE}/modules.{stage}", _text(list(new)))
    return archive.data()


def _config(kernel: Kernel) -> list[Path]:
    """Return the file of the kernel's settings, which libbpf reads for what is declared __kconfig, if it came along."""
    path = kernel.image.with_name(f"config-{kernel.release}")
    return [path] if path.is_file() else []


def _module(path: Path) -> bytes:
    try:
        return modules.unsigned(read_module(path))
    except ValueError as error:  # packed with something that nothing here can unpack
        raise NoHostError("boot a kernel", str(error)) from error


def _about(path: Path) -> str:
    about = path.stat()
    return f"{path} {about.st_size} {about.st_mtime_ns}"


def _text(words: list[str]) -> bytes:
    return "".join(f"{word}\n" for word in words).encode("utf-8", "surrogateescape")
