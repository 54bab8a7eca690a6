"""Names that exist and resemble the one that does not: tracepoints, functions of the kernel or a file, hooks."""

from __future__ import annotations

import difflib
import functools
import heapq
import mmap
import os
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from . import elf, tracefs

_BTF_FOLDER = "/sys/kernel/btf"
BTF = f"{_BTF_FOLDER}/vmlinux"
_BTF_HEADER = struct.Struct("=4x5I")  # struct btf_header: its length, then offset and size of types and of names
_LIMIT = 5
_MANY = 500
_SYSCALL = re.compile(r"__(?:x64|arm64|s390x|riscv|powerpc)_sys_(\w+)")
# Copies and stubs that nobody means: the padding before a function, its unlikely part, tables of the linker.
_NOT_MEANT = re.compile(r"__(?:pfx|cfi|SCT|SCK|ksymtab|ftrace_invalid_address)_|.*\.cold\b")

T = TypeVar("T")


def close(name: str, names: Iterable[str]) -> list[str]:
    """Up to five names that resemble `name`."""
    candidates = list(names)
    if len(candidates) > _MANY:  # of tens of thousands, difflib alone would take a second
        candidates = heapq.nlargest(_MANY, candidates, key=_shared(name))
    return difflib.get_close_matches(name, candidates, _LIMIT, 0.6)


def tracepoints(category: str, name: str) -> list[str]:
    """Tracepoints like this one: of the same category by bare name, else ``category/name``."""
    root = f"{tracefs.tracing()}/events"
    if not os.path.isdir(root):
        return []
    folder = os.path.join(root, category)
    if os.path.isdir(folder):
        found = close(name, _folders(folder))
        if found:
            return found
    everything = [f"{group}/{event}" for group in _folders(root) for event in _folders(os.path.join(root, group))]
    exact = [full for full in everything if full.endswith(f"/{name}")]
    return exact[:_LIMIT] or close(f"{category}/{name}", everything)


def raw_tracepoint_names() -> set[str]:
    """Names for raw_tp and tp_btf, from the BTF of the kernel and its modules; empty without one."""
    prefix = b"btf_trace_"
    return {name[len(prefix) :].decode() for name in _all_btf_names() if name.startswith(prefix)}


def btf() -> bytes:
    """Give the kernel's BTF; empty without one."""
    return _read(BTF)


def modules() -> dict[str, int]:
    """Modules of the kernel that have BTF of their own, and how many bytes each; empty where it cannot be read."""
    try:
        with os.scandir(_BTF_FOLDER) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if entry.name != os.path.basename(BTF)}
    except OSError:
        return {}


def module_btf(name: str) -> bytes:
    """Give a module's BTF, which goes on from the kernel's; raises OSError, also when it has been unloaded."""
    with open(f"{_BTF_FOLDER}/{os.path.basename(name)}", "rb") as file:
        return file.read()


def kernel_functions() -> dict[str, str]:
    """Functions of the kernel that can be probed, each with its module; without tracefs, all that are to be seen."""
    # What there is changes with the modules alone, and takes the kernel some time to write, seconds where emulated.
    loaded = tuple(tuple(line.split(None, 2)[:2]) for line in _read("/proc/modules").splitlines())
    return _kernel_functions(tracefs.tracing(), loaded)


@functools.lru_cache(maxsize=1)
def _kernel_functions(root: str | None, loaded: tuple[tuple[bytes, ...], ...]) -> dict[str, str]:
    found = _traceable(root) or _text_symbols()
    return {name: module for name, module in found.items() if is_meant(name)}


def is_meant(name: str) -> bool:
    """Whether a person can mean this function of the kernel."""
    return not _NOT_MEANT.match(name)


def btf_functions() -> set[str]:
    """Functions of the kernel that its BTF names as well, for fentry; empty without BTF."""
    known = set(_all_btf_names())
    return {name for name in kernel_functions() if name.encode() in known}


def lsm_hooks() -> set[str]:
    """Names for lsm, from the kernel's BTF; empty without one."""
    return {name.decode() for name in re.findall(rb"(?<=\0)bpf_lsm_(\w+)(?=\0)", _read(BTF))}


def syscalls() -> set[str]:
    """System calls of the kernel, without the prefix that their functions have."""
    return {match[1] for name in kernel_functions() if (match := _SYSCALL.fullmatch(name))}


def iterators() -> set[str]:
    """Names for iter, from the kernel's BTF, which has a context for each; empty without one."""
    return {name.decode() for name in re.findall(rb"(?<=\0)bpf_iter__(\w+)(?=\0)", _read(BTF))}


def functions(path: str) -> set[str]:
    """Functions a file defines; empty when it is no ELF file that can be read."""
    return of_file(path, elf.function_names) or set()


def usdt_probes(path: str) -> set[str]:
    """USDT probes a file has, as ``provider:name``; empty when it is no ELF file that can be read."""
    return {f"{provider}:{name}" for provider, name, _ in of_file(path, elf.usdt_probes) or ()}


def of_file(path: str, read: Callable[[memoryview], T]) -> T | None:
    """Read something in an ELF file; None when it is none that can be read."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            view = memoryview(data)
            try:
                return read(view)
            finally:
                view.release()
    except (OSError, ValueError, elf.DamagedElf):
        return None


def _all_btf_names() -> Iterator[bytes]:
    """Every name in the BTF of the kernel and of its modules."""
    for name in (os.path.basename(BTF), *modules()):
        yield from _btf_names(_read(f"{_BTF_FOLDER}/{name}"))


def _btf_names(raw: bytes) -> list[bytes]:
    """Every name in BTF: its last section alone, of which an emulated machine has enough to do."""
    if len(raw) < _BTF_HEADER.size:
        return []
    length, _, _, at, size = _BTF_HEADER.unpack_from(raw)
    return raw[length + at : length + at + size].split(b"\0")


def _traceable(root: str | None) -> dict[str, str]:
    lines = _read(f"{root}/available_filter_functions").decode(errors="replace")
    return _with_modules(r"^([\w.$]+)(?: \[(\w+)\])?", lines)


def _with_modules(pattern: str, lines: str) -> dict[str, str]:
    """Names by their modules; of several of one name the first: the kernel's own stand before those of modules."""
    return dict(reversed(re.findall(pattern, lines, re.MULTILINE)))


def _text_symbols() -> dict[str, str]:
    """Read the function symbols of /proc/kallsyms, which shows names to everybody, addresses to few."""
    lines = _read("/proc/kallsyms").decode(errors="replace")
    return _with_modules(r"^[0-9a-f]+ [tTwW] ([\w.$]+)(?:\t\[(\w+)\])?", lines)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:  # near names are only a help
        return b""


def _shared(name: str) -> Callable[[str], float]:
    """Key that tells how many runs of three letters a name shares with this one, for its length."""
    wanted = {name[at : at + 3] for at in range(max(len(name) - 2, 1))}

    def share(other: str) -> float:
        return sum(part in other for part in wanted) / (len(name) + len(other))

    return share


def _folders(path: str) -> list[str]:
    with os.scandir(path) as entries:
        return [entry.name for entry in entries if entry.is_dir()]
