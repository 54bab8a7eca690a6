"""From a cell's text to an ELF object."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import ebpf_magic
from ebpf_magic import cache
from ebpf_magic.build import diagnostics, headers, spare
from ebpf_magic.build.clang import DEADLINE_S, Clang, Result, base_flags, goes_with_precompiled
from ebpf_magic.build.headers import LICENCE, PRELUDE, USDT, Headers, KernelTarget
from ebpf_magic.build.private import PrivateFolder
from ebpf_magic.build.source import Source
from ebpf_magic.build.spare import Spare
from ebpf_magic.build.toolchain import Toolchain, find_toolchain
from ebpf_magic.data.btf import Btf
from ebpf_magic.data.legacy_maps import modernised
from ebpf_magic.errors import ToolchainError, UnsupportedError, UsageError

_ELF = b"\x7fELF"
_CELL = "cell"
_DEPENDENCIES = "cell.d"
# clang compares an unknown name with all it knows, which takes minutes when the name is a megabyte of noise.
_MAX_SPELLED = 1000
# Of the compiler that waited; then there is still time for the plain way.
_AHEAD_DEADLINE_S = 10.0
_CONDITION = re.compile(r"^[ \t]*#[ \t]*(?:if|ifdef|ifndef|elif)\b(.*)$", re.MULTILINE)
_begun: set[str] = set()
_to_keep: list[tuple[str, bytes]] = []


@dataclass(frozen=True)
class Built:
    """A compiled cell.

    Attributes
    ----------
    object : bytes
        The ELF object, with BTF.
    source : Source
        The cell.
    cached : bool
        Whether it came out of the cache.
    prelude : str
        How the implied prelude was brought in: "precompiled", "plain", or "none" for a cell with its own includes.
    compile_ns : int
        What getting the object took.
    warnings : str
        The compiler's warnings, with the cell's lines.
    parts : tuple of (str, Built)
        The cells it was linked from, by name and in the object's order; empty for one that was not.
    """

    object: bytes
    source: Source
    cached: bool
    prelude: str
    compile_ns: int
    warnings: str
    parts: tuple[tuple[str, Built], ...] = ()

    @cached_property
    def btf(self) -> Btf:
        """The types of its maps and globals."""
        return Btf.from_elf(self.object)


def compile_cell(
    source: str,
    *,
    kernel: KernelTarget,
    clang: str | None = None,
    include: Sequence[str] = (),
    cflags: Sequence[str] = (),
) -> Built:
    """Compile a cell for a kernel; needs no privilege.

    Parameters
    ----------
    source : str
        C, either with its own includes or without a single one; then vmlinux.h, libbpf's headers and ebpf_magic.h are
        implied. A cell that declares no licence is under the GPL.
    kernel : KernelTarget
        The kernel it is for.
    clang : str, optional
        The compiler; see `find_toolchain`.
    include : sequence of str
        Folders to look for the cell's headers in, after the working folder.
    cflags : sequence of str
        More flags for it.

    Returns
    -------
    Built

    Raises
    ------
    CompileError
        When the compiler refuses the cell; has its line and column.
    ToolchainError
        When the compiler, libbpf's headers or the kernel's BTF are missing.
    UsageError
        When the cell is empty or is no text.
    """
    began_ns = time.perf_counter_ns()
    cell = Source.parse(source)
    ahead = _begin_ahead(cell, cflags)
    keep()
    if kernel.arch not in headers.ARCHES:
        raise UnsupportedError(f"compile for {kernel.arch}", f"only {' and '.join(headers.ARCHES)} are offered yet")
    if not kernel.build_id:  # then only its BTF tells it from others
        btf = kernel.btf()
        kernel = KernelTarget(kernel.arch, cache.digest(btf), lambda: btf)
    folders = _include_flags(include)
    flags = [*_checked(cflags), *(folders if cell.own_includes else [])]  # the prelude's headers are not to change
    toolchain = find_toolchain(clang)
    libbpf = headers.libbpf_headers()
    setting = cache.digest(
        *(ebpf_magic.__version__, toolchain.identity, headers.identity(libbpf), kernel.arch, kernel.build_id),
        *(str(cache.root()), *base_flags(kernel.arch)),
    )
    key = cache.digest(setting, cell.text, _working_folder() if cell.own_includes else "", *flags)
    built = _recall(cell, key)
    if built is None:
        built = _build(cell, kernel, toolchain, libbpf, flags, setting, key, ahead)
    return replace(built, compile_ns=time.perf_counter_ns() - began_ns)


def keep() -> None:
    """Put what was compiled into the cache: done when there is time for it, once the cell is attached."""
    made, _to_keep[:] = _to_keep[:], []
    for key, entry in made:
        cache.put("objects", key, entry)


def _begin_ahead(cell: Source, cflags: Sequence[str]) -> Spare | None:
    """Have the waiting compiler begin with a cell that is new, before it is known whether it is the right one."""
    if cell.own_includes or cflags or cell.text in _begun:
        return None
    _begun.add(cell.text)
    ahead = spare.take()
    if ahead:
        ahead.give(_CELL, _unit(cell))
    return ahead


def _build(
    cell: Source,
    kernel: KernelTarget,
    toolchain: Toolchain,
    libbpf: Path,
    flags: list[str],
    setting: str,
    key: str,
    ahead: Spare | None,
) -> Built:
    with PrivateFolder() as folder:
        found = Headers(_vmlinux(cell, kernel, folder), libbpf, headers.host_folders(kernel.arch))
        clang = Clang(toolchain, found, kernel.arch, folder, time.monotonic() + DEADLINE_S)
        if cell.longest_word > _MAX_SPELLED:
            flags = [*flags, "-fno-spell-checking"]
        if cell.own_includes:
            prelude, result = "none", _compile(clang, cell, "-iquote", _working_folder(), *flags)
        else:
            prelude, result = _compile_with_prelude(clang, cell, flags, setting, ahead)
        if result.code != 0 or not result.made.startswith(_ELF):
            raise diagnostics.compile_error(cell, result, libbpf)
        made = modernised(result.made) if cell.has_old_maps else result.made
        built = Built(made, cell, False, prelude, 0, diagnostics.warnings(cell, result.log))
        _remember(built, key, _dependencies(folder.path) if cell.own_includes or flags else [])
        return built


def _compile_with_prelude(
    clang: Clang, cell: Source, flags: list[str], setting: str, ahead: Spare | None
) -> tuple[str, Result]:
    """Compile with the precompiled prelude where that is known to be right, without it where not, or where it fails."""
    first = _definitions_for_prelude(cell, clang.headers)
    more = [*([USDT] if cell.has_usdt else []), *([] if cell.has_licence else [LICENCE])]
    behind = [word for header in more for word in ("-include", str(header))]
    if not first and (not flags or goes_with_precompiled(flags, clang.headers.prelude_text())):
        precompiled = clang.precompiled_prelude(cache.digest(setting, *clang.headers.flags()))
        if precompiled:
            words = [*flags, "-include-pch", str(precompiled), *behind]
            made = None if flags else _compile_by_spare(clang, ahead, words)
            result = Result(0, "", made) if made else _compile(clang, cell, *words)
            if result.code == 0:
                return "precompiled", result
            plain = _compile(clang, cell, *flags, "-include", str(PRELUDE), *behind)
            if plain.code == 0:
                cache.remove(precompiled)  # it was damaged, or its headers have changed
            return "plain", plain
    before = clang.folder.path / "first.h"
    before.write_text(first, "utf-8")
    return "plain", _compile(clang, cell, *flags, "-include", str(before), "-include", str(PRELUDE), *behind)


def _compile_by_spare(clang: Clang, ahead: Spare | None, words: list[str]) -> bytes | None:
    """Take what the waiting compiler made, if it was the right one."""
    if clang.toolchain.kind != "clang":  # zig's starts in half the time
        return None
    command = clang.command(*words)
    spare.expect(command)
    if ahead is None or ahead.command != tuple(command):
        return None
    return ahead.result(_AHEAD_DEADLINE_S)


def _compile(clang: Clang, cell: Source, *words: str) -> Result:
    (clang.folder.path / _CELL).write_text(_unit(cell), "utf-8", newline="\n")
    return clang.compile(*words, "-MD", "-MF", _DEPENDENCIES, "-x", "c", _CELL)


def _unit(cell: Source) -> str:
    """Return what is compiled: the cell, its lines where they were.

    A licence goes behind a cell with its own includes: a header of its own may have one, and libbpf takes the first.
    """
    if not cell.own_includes or cell.has_licence:
        return cell.text + "\n"
    return f'{cell.text}\n\n#line 1 "{diagnostics.AFTER_CELL}"\n{LICENCE.read_text()}'


def _definitions_for_prelude(cell: Source, found: Headers) -> str:
    """Return those of the cell's leading definitions that the prelude's headers ask for in their conditions."""
    definitions = cell.leading_definitions()
    if not definitions:
        return ""
    asked = set(re.findall(r"[A-Za-z_]\w*", " ".join(_CONDITION.findall(found.prelude_text()))))
    return "".join(text for name, text in definitions.items() if name in asked)


def _vmlinux(cell: Source, kernel: KernelTarget, folder: PrivateFolder) -> Path | None:
    try:
        return headers.vmlinux_folder(kernel, folder)
    except ToolchainError:
        if cell.own_includes and "vmlinux.h" not in cell.code:
            return None
        raise


def _checked(cflags: Sequence[str]) -> list[str]:
    if isinstance(cflags, str) or not all(isinstance(flag, str) and "\0" not in flag for flag in cflags):
        raise UsageError(f"compiler flags {cflags!r}", "they must be a list of strings")
    # The compiler works in a folder of its own, so a relative folder must be made absolute.
    return [f"-I{os.path.abspath(flag[2:])}" if re.match("-I[^/]", flag) else flag for flag in cflags]


def _include_flags(folders: Sequence[str]) -> list[str]:
    """Return the flags for folders of headers; raises `UsageError` for one that is not there."""
    found = [os.path.abspath(os.path.expanduser(folder)) for folder in folders]
    for folder in found:
        if not os.path.isdir(folder):
            raise UsageError(f"--include {folder}", "no such folder")
    return [f"-I{folder}" for folder in found]


def _working_folder() -> str:
    """Return where the cell's own headers are looked for; the root when the current folder is gone."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"


def _dependencies(folder: Path) -> list[list[Any]]:
    """Return path, time and size of each header the cell was compiled with."""
    try:
        rule = (folder / _DEPENDENCIES).read_text("utf-8", "surrogateescape")
    except FileNotFoundError:
        return []
    words = re.findall(r"(?:\\.|[^\s\\])+", rule.partition(":")[2].replace("\\\n", " "))
    paths = [re.sub(r"\\(.)", r"\1", word).replace("$$", "$") for word in words]
    return [_about(path) for path in paths if os.path.isabs(path) and not path.startswith(f"{folder}/")]


def _about(path: str) -> list[Any]:
    try:
        about = os.stat(path)
    except OSError:
        return [path, 0, -1]
    return [path, about.st_mtime_ns, about.st_size]


def _remember(built: Built, key: str, dependencies: list[list[Any]]) -> None:
    about = {"prelude": built.prelude, "warnings": built.warnings, "dependencies": dependencies}
    _to_keep.append((key, json.dumps(about).encode() + b"\n" + built.object))


def _recall(cell: Source, key: str) -> Built | None:
    """Return the object of an earlier build, if every header it was made of is still the same."""
    entry = cache.get("objects", key)
    if entry is None:
        return None
    first, _, made = entry.partition(b"\n")
    about = json.loads(first)
    if any(_about(path) != [path, mtime_ns, size] for path, mtime_ns, size in about["dependencies"]):
        return None
    return Built(made, cell, True, about["prelude"], 0, about["warnings"])
