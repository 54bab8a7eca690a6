"""The command ``ebpf-magic kernel``: the kernels that virtual machines boot."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from typing import TYPE_CHECKING, TextIO

from ebpf_magic.errors import NoKernelError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from ebpf_magic.kernels import Kernel

_BAR_WIDTH = 24
_INTERRUPTED = 130  # what a shell gives for a command that Ctrl-C ended


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its three verbs to the parser."""
    kernel = commands.add_parser("kernel", help="list, fetch and remove kernels for virtual machines; needs no root")
    verbs = kernel.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("list", help="the kernels that can be booted").set_defaults(act=_list)
    fetch = verbs.add_parser("fetch", help="fetch kernels from the distribution's packages, their signatures checked")
    fetch.add_argument(
        "version",
        nargs="+",
        metavar="VERSION",
        help="a series (6.1: its newest release) or a release (6.1.0-50-amd64); "
        "`tools`: only the busybox and libbpf that come with a kernel",
    )
    fetch.add_argument(
        "--missing", action="store_true", help="only those of which no release is there; may need no network"
    )
    fetch.set_defaults(act=_fetch)
    remove = verbs.add_parser("remove", help="remove a fetched kernel from the disk")
    remove.add_argument("version", metavar="VERSION", help="its release, or its series if there is one release of it")
    remove.set_defaults(act=_remove)


def _list(options: argparse.Namespace) -> int:
    from ebpf_magic import kernels

    found = kernels.listed()
    if not found:
        print("no kernel yet; such as: ebpf-magic kernel fetch 6.1")
        return 0
    width = max(len(kernel.release) for kernel in found)
    for kernel in found:
        print(f"{kernel.version:5} {kernel.release:{width}}  {kernel.source:8} {_size(kernel):>7}  {kernel.image}")
    newer = kernels.libbpf()
    if newer:
        print(f"{newer.name} is used in place of this system's older one")
    return 0


def _fetch(options: argparse.Namespace) -> int:
    from ebpf_magic import kernels
    from ebpf_magic.hosts.guest import image

    wanted = [each for each in dict.fromkeys(options.version) if not (options.missing and _is_there(each))]
    bar = Bar(sys.stderr)
    try:
        fetched = kernels.fetch_several([each for each in wanted if each != "tools"], bar)
        tools = kernels.fetch_tools(bar) if "tools" in wanted else []
    except KeyboardInterrupt:
        bar.close()
        print("ebpf-magic: interrupted; what was not finished is removed", file=sys.stderr)
        return _INTERRUPTED
    finally:
        bar.close()
    for kernel in fetched:
        image.fastest(kernel)  # unpacked now, and not while somebody waits for the first boot
        print(f"kernel {kernel.release}, {_size(kernel)}: {kernel.image}")
    for path in tools:
        print(path)
    return 0


def _is_there(wanted: str) -> bool:
    from ebpf_magic import kernels

    try:
        kernels.find(wanted)
        kernels.busybox()
    except NoKernelError:
        return False
    return True


def _remove(options: argparse.Namespace) -> int:
    from ebpf_magic import kernels

    print(f"removed kernel {kernels.remove(options.version).release}")
    return 0


def _size(kernel: Kernel) -> str:
    return f"{kernel.size_bytes / 1e6:.0f} MB"


class Bar:
    """Progress as a bar on one line of a terminal; elsewhere a line for each thing that is begun.

    Parameters
    ----------
    file : text file
        Where it goes.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._drawn = file.isatty()
        self._text = ""
        self._next = 0.0

    def __call__(self, text: str, part: float) -> None:
        """Show what is being done, and how much of it is (0 to 1)."""
        new = text != self._text
        if not self._drawn:
            if new:
                print(text, file=self._file, flush=True)
        elif new or part >= 1 or time.monotonic() >= self._next:
            if new and self._text:
                print(file=self._file)
            self._draw(text, part)
            self._next = time.monotonic() + 0.1
        self._text = text

    def _draw(self, text: str, part: float) -> None:
        filled = round(_BAR_WIDTH * part)
        room = max(10, shutil.get_terminal_size().columns - _BAR_WIDTH - 10)
        line = f"[{'#' * filled}{' ' * (_BAR_WIDTH - filled)}] {part:4.0%} {text[:room]}"
        print(f"\r\x1b[K{line}", end="", file=self._file, flush=True)

    def close(self) -> None:
        """End the line; safe to call twice."""
        if self._drawn and self._text:
            print(file=self._file, flush=True)
        self._text = ""
