"""Fetching kernels: which package, and its way into the user's data folder."""

from __future__ import annotations

import difflib
import errno
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from ebpf_magic.errors import FetchError, NoKernelError
from ebpf_magic.kernels import modules, store, tools
from ebpf_magic.kernels.packages import Packages, Progress
from ebpf_magic.kernels.store import Kernel
from ebpf_magic.kernels.unpack import kernel_file, unpack

T = TypeVar("T")
# A release of Debian has one kernel, its backports a newer one; these are where the others are.
_DEBIAN_RELEASES = {"5.10": "bullseye", "6.1": "bookworm", "6.12": "trixie"}
_LIBBPF_FILE = re.compile(r"usr/lib/[^/]+/(libbpf\.so\.1\.\d+\.\d+)")


def fetch(wanted: str, progress: Progress | None = None) -> Kernel:
    """Fetch a kernel from the distribution's packages into the user's data folder; needs no root.

    Parameters
    ----------
    wanted : str
        A series (``6.1``: its newest release) or a release (``6.1.0-50-amd64``).
    progress : callable, optional
        Told what is being done, and how much of it is (0 to 1).

    Returns
    -------
    Kernel
        The one that was fetched, or the one that was there if it is the newest. A static busybox and, where the
        system's is older, a newer libbpf come with it.

    Raises
    ------
    NoKernelError
        When there is no package of it; `near` names some that there are.
    FetchError
        When the packages cannot be had, or not unpacked. Nothing of it stays.

    Requires
    --------
    apt and the network; room for about 300 MB, of which about a third stays.
    """
    return fetch_several([wanted], progress)[0]


def fetch_several(wanted: Sequence[str], progress: Progress | None = None) -> list[Kernel]:
    """Fetch kernels with one look at the package lists; see `fetch`."""
    report = progress or _be_silent
    for each in wanted:
        if not re.fullmatch(r"\d+\.\d+([.+~-][\w.+~-]*)?", each):
            raise NoKernelError(f"fetch kernel {each}", "that is no version", "Such as `ebpf-magic kernel fetch 6.1`.")

    def act(packages: Packages, work: Path) -> list[Kernel]:
        # Chosen before another release is looked into: a library of that one may want a newer C library.
        libbpf = _newest_libbpf(packages)
        kernels = [_kernel(each, packages, work, report) for each in wanted]
        _tools(libbpf, packages, work, report)
        return kernels

    return _with_packages(report, act) if wanted else []


def fetch_tools(progress: Progress | None = None) -> list[Path]:
    """Fetch what comes with a kernel, for those who have one: a static busybox and a newer libbpf; see `fetch`."""
    report = progress or _be_silent
    return _with_packages(report, lambda packages, work: _tools(_newest_libbpf(packages), packages, work, report))


def _be_silent(text: str, part: float) -> None:
    """Report to nobody."""


def _with_packages(report: Progress, act: Callable[[Packages, Path], T]) -> T:
    try:
        with store.locked(lambda: report("waiting for another fetch", 0.0)), store.workplace() as work:
            return act(Packages(work, report), work)
    except OSError as error:
        hint = f"{store.root()} is where kernels go; XDG_DATA_HOME names another place."
        why = "the disk is full" if error.errno == errno.ENOSPC else str(error)
        raise FetchError("keep a fetched kernel", why, hint, errno=error.errno) from error


def _kernel(wanted: str, packages: Packages, work: Path, report: Progress) -> Kernel:
    name, release = _choose(wanted, packages)
    kernel = store.kernel_in(store.kernel_folder(release), release)
    if kernel.image.is_file():
        report(f"{release} is there", 1.0)
    else:
        _fetch_kernel(name, release, packages, work, report)
    return kernel


def _choose(wanted: str, packages: Packages) -> tuple[str, str]:
    """Choose the newest package of what is wanted; return its name and its release."""
    found = _releases(packages)
    if not any(store.is_of(release, wanted) for release in found) and packages.system.name == "debian":
        other = _DEBIAN_RELEASES.get(store.series(wanted))
        if other and other != packages.system.codename:
            packages.add_release(other)
            found = _releases(packages)
    fitting = [release for release in found if store.is_of(release, wanted)]
    if not fitting:
        if packages.trouble:
            raise packages.no_lists()
        all_series = sorted({store.series(release) for release in found}, key=store.age)
        near = [*all_series, *difflib.get_close_matches(wanted, found, n=3)] if "-" in wanted else all_series
        raise NoKernelError(
            f"fetch kernel {wanted}",
            f"{packages.system.name} {packages.system.codename} has no such package",
            near=near,
        )
    release = max(fitting, key=store.age)
    return found[release], release


def _releases(packages: Packages) -> dict[str, str]:
    """Return the releases that there are, and the package of each.

    The small "cloud" kernels have no 9p, by which the guest sees this machine's files.
    """
    flavour = "generic" if packages.system.name == "ubuntu" else packages.architecture
    pattern = re.compile(rf"linux-image-(unsigned-)?(\d+\.\d+\.\d+\S*?-{re.escape(flavour)})")
    found: dict[str, str] = {}
    for name in sorted(packages.names("^linux-image-")):
        match = pattern.fullmatch(name)
        if match and not re.search(r"-(cloud|rt|lowlatency)\b", match[2]):
            found.setdefault(match[2], name)  # signed comes before unsigned
    return found


def _fetch_kernel(name: str, release: str, packages: Packages, work: Path, report: Progress) -> None:
    about = packages.about(name)
    _check_room(name, about)
    new = work / "kernel"
    new.mkdir(mode=0o700)

    def add(part: str) -> None:
        package = packages.download(part)
        unpack(package, new, kernel_file, lambda done: report(f"unpacking {release}", done))
        package.unlink()

    add(name)
    kernel = store.kernel_in(new, release)
    # Ubuntu has the modules in packages of their own, what servers seldom need in a second one.
    needs = re.findall(rf"linux-modules-{re.escape(release)}(?![\w.+-])", about.get("Depends", ""))
    for part in dict.fromkeys(needs):
        add(part)
        extra = part.replace("linux-modules-", "linux-modules-extra-")
        if not any(kernel.modules.rglob("9pnet_virtio.ko*")) and packages.versions(extra):
            add(extra)
    if not kernel.image.is_file() or not kernel.modules.is_dir():
        raise FetchError(f"unpack {name}", "it holds no kernel image and modules under the expected names")
    report(f"indexing the modules of {release}", 0.0)
    try:
        modules.write_index(kernel.modules)
    except ValueError as error:
        raise FetchError(f"index the modules of {release}", str(error)) from None
    report(f"indexing the modules of {release}", 1.0)
    os.rename(new, store.make_folder("kernels") / release)


def _check_room(name: str, about: dict[str, str]) -> None:
    """Refuse before the disk is full: the package, and half of what is in it, must find room."""
    wanted = int(about.get("Size", 0)) + int(about.get("Installed-Size", 0)) * 1024 // 2
    free = shutil.disk_usage(store.root()).free
    if free < wanted:
        raise FetchError(
            f"fetch the package {name}",
            f"it needs {wanted >> 20} MB for a moment, and {free >> 20} MB are free in {store.root()}",
            "XDG_DATA_HOME names another place for kernels; `ebpf-magic kernel list` shows those that are there.",
        )


def _newest_libbpf(packages: Packages) -> str:
    return max(packages.versions("libbpf1"), key=tools.libbpf_version, default="")


def _tools(libbpf: str, packages: Packages, work: Path, report: Progress) -> list[Path]:
    """Fetch the tools that are not there yet, libbpf of this version; return those that are there then."""
    folder = store.make_folder("tools")
    if not (folder / "busybox").is_file():
        package = packages.download("busybox-static")
        _keep(unpack(package, work / "new", lambda name: "busybox" if name.endswith("bin/busybox") else None), folder)
    there = tools.fetched_libbpf()
    if tools.libbpf_version(libbpf) > max(tools.system_libbpf(), there[0] if there else (0, 0)):
        package = packages.download("libbpf1", libbpf)
        _keep(unpack(package, work / "new", _libbpf_file), folder)
        if there:
            there[1].unlink()
    report("tools are there", 1.0)
    return sorted(folder.iterdir())


def _libbpf_file(name: str) -> str | None:
    found = _LIBBPF_FILE.fullmatch(name)
    return found[1] if found else None


def _keep(files: list[Path], folder: Path) -> None:
    for path in files:
        os.replace(path, folder / path.name)
