"""What can be probed, as far as only the kernel's side knows: tracepoints, functions, and what is in a file here."""

from __future__ import annotations

import fnmatch
import mmap
import os
import re
from collections.abc import Callable, Iterable, Iterator

from . import elf, near, tracefs
from .attach import functions, user
from .fault import Fault

_MAX_FORMAT_BYTES = 1 << 20


def find(kind: str, pattern: str) -> list[str]:
    """Names that match a shell pattern; raises `Fault` where they cannot be known.

    Parameters
    ----------
    kind : str
        ``tracepoint``: by CATEGORY/NAME or NAME; ``syscall``: those with tracepoints; ``function``: of the kernel,
        those that ftrace knows, or all, behind a tab its module if it has one; ``kprobe``: the same, none in a kernel
        without kprobes; ``module``: those with BTF, behind a tab its size in bytes; ``file``: pattern is
        PATH:PATTERN, and each answer the kind, the name and where it is, parted by tabs.
    """
    searches: dict[str, Callable[[], Iterable[str]]] = {
        "tracepoint": _tracepoints,
        "syscall": _syscalls,
        "function": _functions,
        "kprobe": lambda: _functions() if functions.has_kprobes() else (),
        "module": lambda: (f"{name}\t{size}" for name, size in near.modules().items()),
    }
    if kind == "file":
        return _in_file(pattern)
    if kind not in searches:
        raise Fault("usage", f"find {kind}", "there is no such search", near=near.close(kind, searches))
    matches = re.compile(fnmatch.translate(pattern)).match
    rows = ((row, row.partition("\t")[0]) for row in searches[kind]())
    return sorted(row for row, name in rows if matches(name) or matches(name.rpartition("/")[2]))


def tracepoint_format(category: str, name: str) -> bytes:
    """Describe a tracepoint's record in tracefs' own words; raises `Fault`."""
    what = f"describe tracepoint {category}/{name}"
    root = _tracefs(what)
    if not re.fullmatch(r"[\w-]+/[\w-]+", f"{category}/{name}"):
        raise Fault("usage", what, "a tracepoint is written CATEGORY/NAME")
    try:
        with open(f"{root}/events/{category}/{name}/format", "rb") as text:
            return text.read(_MAX_FORMAT_BYTES)
    except FileNotFoundError:
        raise Fault("attach", what, "no such tracepoint", near=near.tracepoints(category, name)) from None


def _functions() -> Iterator[str]:
    for name, module in near.kernel_functions().items():
        yield f"{name}\t{module}" if module else name


def _tracepoints() -> Iterator[str]:
    with open(f"{_tracefs('list tracepoints')}/available_events") as lines:
        for line in lines:
            yield line.strip().replace(":", "/", 1)


def _syscalls() -> Iterator[str]:
    folder = f"{_tracefs('list system calls')}/events/syscalls"
    if os.path.isdir(folder):
        for name in os.listdir(folder):
            if name.startswith("sys_enter_"):
                yield name[len("sys_enter_") :]


def _tracefs(what: str) -> str:
    problem = tracefs.ensure_tracing()
    root = tracefs.tracing()
    if root is None:
        raise Fault("permission", what, problem or "tracefs cannot be read", "`%ebpf doctor` says how to mend it.")
    return root


def _in_file(pattern: str) -> list[str]:
    name, _, wanted = pattern.partition(":")
    what = f"look into {name}"
    path = user.resolve(name)
    if path is None:
        raise Fault("usage", what, user.unresolved(name), near=_near_files(name))
    matches = re.compile(fnmatch.translate(wanted or "*")).match
    rows = [f"uprobe\t{path}:{symbol}\t" for symbol in sorted(near.functions(path)) if matches(symbol)]
    for provider, probe, arguments in sorted(_usdt(path, what)):
        if matches(probe) or matches(f"{provider}:{probe}"):
            rows.append(f"usdt\t{path}:{provider}:{probe}\t{arguments}")
    return rows


def _near_files(name: str) -> list[str]:
    folder, _, base = name.rpartition("/")
    folders = [folder or "/"] if "/" in name else ["/usr/bin", "/usr/sbin", "/lib", "/usr/lib"]
    names: set[str] = set()
    for each in folders:
        if os.path.isdir(each):
            names |= set(os.listdir(each))
    prefix = f"{folder}/" if "/" in name else ""
    return [prefix + found for found in near.close(base, names)]


def _usdt(path: str, what: str) -> set[tuple[str, str, str]]:
    """Give provider, name and arguments of a file's own probes; raises `Fault`."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            view = memoryview(data)
            try:
                return elf.usdt_probes(view)
            finally:
                view.release()
    except (OSError, ValueError) as error:
        raise Fault("usage", what, f"it cannot be read: {error}") from None
    except elf.DamagedElf as error:
        raise Fault("usage", what, str(error), "Probes are in programs and libraries, ELF files.") from None
