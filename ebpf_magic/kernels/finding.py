"""Which kernels there are: the fetched ones, this machine's, one of the user's own."""

from __future__ import annotations

import difflib
import os
import struct
from pathlib import Path

from ebpf_magic.errors import NoKernelError
from ebpf_magic.kernels import store
from ebpf_magic.kernels.store import Kernel

BOOT = Path("/boot")
MODULES = Path("/lib/modules")
_BZIMAGE = 0x202  # "HdrS": Documentation/arch/x86/boot.rst, section "The Real-Mode Kernel Header"
_KERNEL_VERSION = 0x20E
_ARM64_IMAGE = 0x38  # "ARM\x64": Documentation/arch/arm64/booting.rst
_HEAD_BYTES = 1024
_RELEASE_LENGTH = 64  # __NEW_UTS_LEN


def find(wanted: str | os.PathLike[str] | None = None) -> Kernel:
    """Find a kernel to boot.

    Parameters
    ----------
    wanted : str or path, optional
        A series (``6.1``: its newest release), a release (``6.1.0-50-amd64``), or the path of a vmlinuz whose modules
        are beside it (``../lib/modules/RELEASE``) or in /lib/modules. The newest fetched one unless said.

    Returns
    -------
    Kernel
        A fetched one where there is one, else one of this machine's /boot that this user may read.

    Raises
    ------
    NoKernelError
        When there is none; it says how to fetch it.
    """
    if wanted is not None and os.sep in os.fspath(wanted):
        return _at_path(Path(wanted))
    kernels = listed()
    if wanted is None:
        if kernels:
            return kernels[0]
        raise NoKernelError("find a kernel to boot", "none was fetched yet", _way_out("6.1"))
    wanted = os.fspath(wanted)
    for kernel in kernels:
        if store.is_of(kernel.release, wanted):
            return kernel
    unreadable = [path for path in _images() if store.is_of(_in_name(path), wanted)]
    why = f"{unreadable[0]} is there, but this user may not read it" if unreadable else "it was not fetched"
    raise NoKernelError(f"find kernel {wanted}", why, _way_out(wanted), near=_near(wanted, kernels))


def listed() -> list[Kernel]:
    """Return every kernel that can be booted by its name: fetched ones first, the newest first among each."""
    return [*store.stored(), *_of_machine()]


def available() -> list[str]:
    """Return the series that can be booted, from old to new: ``["6.1", "6.12"]``."""
    return sorted({kernel.version for kernel in listed()}, key=store.age)


def remove(wanted: str) -> Kernel:
    """Remove a fetched kernel from the disk.

    Parameters
    ----------
    wanted : str
        Its release, or its series when only one of that was fetched.

    Returns
    -------
    Kernel
        The one that is gone.
    """
    stored = store.stored()
    found = [kernel for kernel in stored if store.is_of(kernel.release, wanted)]
    what = f"remove kernel {wanted}"
    if not found:
        raise NoKernelError(what, "it was not fetched", near=_near(wanted, stored))
    if len(found) > 1:
        raise NoKernelError(what, "several are of that name; say which", near=[kernel.release for kernel in found])
    store.drop(found[0])
    return found[0]


def _way_out(wanted: str) -> str:
    return f"Fetch it, which needs no root: `ebpf-magic kernel fetch {wanted}`."


def _near(wanted: str, kernels: list[Kernel]) -> list[str]:
    names = [*dict.fromkeys(kernel.version for kernel in kernels), *(kernel.release for kernel in kernels)]
    return difflib.get_close_matches(wanted, names, n=3, cutoff=0.4)


def _images() -> list[Path]:
    images = [*BOOT.glob("vmlinuz-*"), *MODULES.glob("*/vmlinuz")]
    return sorted(images, key=lambda path: store.age(_in_name(path)), reverse=True)


def _in_name(image: Path) -> str:
    return image.name.removeprefix("vmlinuz-") if image.name.startswith("vmlinuz-") else image.parent.name


def _of_machine() -> list[Kernel]:
    kernels: dict[str, Kernel] = {}
    for image in _images():
        release = _in_name(image)
        modules = MODULES / release
        if image.is_file() and os.access(image, os.R_OK) and (modules / "modules.dep").is_file():
            kernels.setdefault(release, Kernel(release, store.series(release), image, modules, "machine"))
    return list(kernels.values())


def _at_path(path: Path) -> Kernel:
    what = f"use the kernel {path}"
    image = Path(os.path.abspath(os.path.expanduser(path)))
    try:
        release = release_of(image)
    except OSError as error:
        raise NoKernelError(what, error.strerror or str(error), errno=error.errno) from None
    if not release:
        raise NoKernelError(what, "it is no bootable kernel image", "vmlinuz or bzImage is wanted, not vmlinux.")
    above = (image.parent, image.parent.parent)
    folders = [*(each / "lib/modules" / release for each in above), image.parent, MODULES / release]
    for modules in folders:
        if (modules / "modules.dep").is_file():
            return Kernel(release, store.series(release), image, modules, "path")
    raise NoKernelError(
        what,
        f"modules.dep of {release} is not in " + ", ".join(map(str, folders)),
        f"`make modules_install INSTALL_MOD_PATH={image.parent}` in the kernel's source puts it there; "
        "an empty file of that name says that everything is built in.",
    )


def release_of(image: Path) -> str:
    """Return the release that a kernel image says it is; empty when it is none that can be booted."""
    with open(image, "rb") as file:
        head = file.read(_HEAD_BYTES).ljust(_HEAD_BYTES, b"\0")  # of one cut short, too
        if head[_BZIMAGE : _BZIMAGE + 4] == b"HdrS":
            file.seek(struct.unpack_from("<H", head, _KERNEL_VERSION)[0] + 0x200)
            return _first_word(file.read(_RELEASE_LENGTH))
        if head[_ARM64_IMAGE : _ARM64_IMAGE + 4] == b"ARM\x64":
            file.seek(0)
            _, _, banner = file.read().partition(b"Linux version ")
            return _first_word(banner[:_RELEASE_LENGTH])
    # arm64's self-extracting and gzip images keep the banner compressed: the name has to say it.
    packed = head[:2] == b"\x1f\x8b" or head[4:8] == b"zimg"
    return image.name.removeprefix("vmlinuz-") if packed and image.name.startswith("vmlinuz-") else ""


def _first_word(text: bytes) -> str:
    word = text.split(b"\0")[0].split(b" ")[0]
    return word.decode("ascii", "replace")
