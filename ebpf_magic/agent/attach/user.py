"""Programs on functions of programs and libraries: uprobe and uretprobe."""

from __future__ import annotations

import ctypes as C
import errno as errnos
import os
import re
from typing import TYPE_CHECKING

from .. import libbpf, near
from .handles import Context, Handle, KernelLink
from .refused import not_attached, refused

if TYPE_CHECKING:
    from ..declared import Program

_UPROBE = re.compile(
    r"(?P<path>[^:]+):(?:(?P<symbol>[A-Za-z_][\w.@$]*)(?:\+(?P<plus>0x[0-9a-fA-F]+|\d+))?|(?P<offset>0x[0-9a-fA-F]+))"
)
_LIBRARY_FOLDERS = ("/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib")
_PROGRAM_FOLDERS = ("/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin", "/usr/local/sbin")


def uprobe(context: Context, program: Program, target: str) -> list[Handle]:
    """Attach a uprobe or uretprobe to ``PATH:FUNCTION[+OFFSET]`` or ``PATH:0xOFFSET``; raises `Fault`."""
    match = _UPROBE.fullmatch(target)
    if match is None:
        raise not_attached(program, target, "a uprobe is written PATH:FUNCTION, PATH:FUNCTION+OFFSET or PATH:0xOFFSET")
    path = resolve(match["path"])
    if path is None:
        raise not_attached(program, target, unresolved(match["path"]))
    symbol = match["symbol"]
    offset = int(match["offset"] or match["plus"] or "0", 0)
    options = libbpf.UprobeOpts(
        sz=C.sizeof(libbpf.UprobeOpts),
        retprobe=program.kind == "uretprobe",
        func_name=symbol.encode() if symbol else None,
    )
    with context.library.printed() as lines:
        pointer = context.library.bpf_program__attach_uprobe_opts(
            program.pointer, -1, path.encode(), offset, C.byref(options)
        )
        number = C.get_errno()
    if pointer:
        return [KernelLink(context.library, pointer)]
    functions = near.functions(path)
    if symbol and symbol.partition("@")[0] not in functions and number not in (errnos.EPERM, errnos.EACCES):
        why = f"no such function in {path}" if functions else f"{path} has no function symbols"
        raise not_attached(program, target, why, near=near.close(symbol, functions), errno=number)
    raise refused(program, f"attach {program.kind} {target}", target, number, lines, {})


def resolve(name: str) -> str | None:
    """Full path of a program or library given by path or by bare name; None when there is none."""
    if "/" in name:
        return name if os.path.isfile(name) else None
    if ".so" in name:
        found = _from_loader_cache(name)
        if found:
            return found
    folders = _LIBRARY_FOLDERS if ".so" in name else _PROGRAM_FOLDERS
    return next((path for folder in folders if os.path.isfile(path := f"{folder}/{name}")), None)


def unresolved(name: str) -> str:
    """Why `resolve` has no path: a named pipe, say, whose reading would wait for ever."""
    return f"{name} is no regular file" if "/" in name and os.path.exists(name) else f"no such file: {name}"


def _from_loader_cache(name: str) -> str | None:
    """Path of a library in the dynamic loader's cache, whose strings stand between NULs."""
    try:
        with open("/etc/ld.so.cache", "rb") as cache:
            paths = re.findall(rb"(?<=\0)/[^\0]*/" + re.escape(name.encode()) + rb"(?=\0)", cache.read())
    except OSError:
        return None
    return next((path.decode() for path in paths if os.path.isfile(path)), None)
