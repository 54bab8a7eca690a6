"""Programs on many functions at once, by a pattern: kprobe.multi of the kernel, uprobe.multi of a file."""

from __future__ import annotations

import ctypes as C
import errno as errnos
import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .. import bpf, bpf_links, elf, kinds, near, traceable
from ..fault import Fault, from_errno
from .handles import Context, Handle, LinkFd
from .refused import refused
from .user import resolve, unresolved

if TYPE_CHECKING:
    from ..declared import Program

_PATTERN = re.compile(r"[\w.*?\[\]$-]+")
_FLAG_RETURN = 1  # BPF_F_KPROBE_MULTI_RETURN, BPF_F_UPROBE_MULTI_RETURN
# A hit of each is paid for, also of those that nobody thought of.
MAX_FUNCTIONS = 10_000
_IN_A_VM = "A VM with a distribution's kernel may have it: --on vm:6.12. %ebpf doctor tries each kind."


def kprobe_multi(context: Context, program: Program, target: str) -> list[Handle]:
    """Attach to every function of the kernel that the pattern matches, or to its return; raises `Fault`."""
    what = f"attach {program.kind} {target}"
    about: dict[str, Any] = {"program": program.name, "target": target}
    if not _PATTERN.fullmatch(target):
        raise Fault(
            "attach", what, f"a {program.kind} is written as a pattern of function names, such as vfs_*", **about
        )
    try:
        functions = traceable.functions(target)
    except OSError as error:
        raise from_errno("attach", what, error.errno or 0, kinds.KINDS[program.kind].needs, **about) from None
    if functions is None:
        why = "this kernel does not list its functions (CONFIG_DYNAMIC_FTRACE)"
        raise Fault("attach", what, why, _IN_A_VM, **about)
    detail = _checked(what, about, functions.addresses, near.kernel_functions, "the kernel has no function like that")
    if functions.ambiguous:
        detail += f"; {functions.ambiguous:,} left out, whose name others have too"
    addresses = (C.c_uint64 * len(functions.addresses))(*functions.addresses)
    attr = bpf_links.KprobeMultiAttr(
        prog_fd=context.library.bpf_program__fd(program.pointer),
        attach_type=kinds.TRACE_KPROBE_MULTI,
        flags=_FLAG_RETURN if program.kind == "kretprobe.multi" else 0,
        count=len(addresses),
        addresses=C.addressof(addresses),
    )
    lacking = "this kernel is built without fprobes (CONFIG_FPROBE), or is older than 5.18"
    reasons = {errnos.EINVAL: lacking, errnos.EOPNOTSUPP: lacking}
    return [_link(program, what, target, attr, detail, reasons)]


def uprobe_multi(context: Context, program: Program, target: str) -> list[Handle]:
    """Attach to every function of a file that ``PATH:PATTERN`` matches, or to its return; raises `Fault`."""
    what = f"attach {program.kind} {target}"
    about: dict[str, Any] = {"program": program.name, "target": target}
    name, _, pattern = target.rpartition(":")
    if not name or not _PATTERN.fullmatch(pattern):
        raise Fault("attach", what, f"a {program.kind} is written PATH:PATTERN, such as libc.so.6:str*", **about)
    path = resolve(name)
    if path is None:
        raise Fault("attach", what, unresolved(name), **about)
    offsets = near.of_file(path, elf.function_offsets) or {}
    # One function may have several names.
    matched = sorted({offset for symbol, offset in offsets.items() if fnmatch.fnmatchcase(symbol, pattern)})
    why = f"no function like that in {path}" if offsets else f"{path} has no function symbols"
    detail = _checked(what, about, matched, lambda: set(offsets), why)
    places = (C.c_uint64 * len(matched))(*matched)
    file = C.create_string_buffer(path.encode())
    attr = bpf_links.UprobeMultiAttr(
        prog_fd=context.library.bpf_program__fd(program.pointer),
        attach_type=kinds.TRACE_UPROBE_MULTI,
        path=C.addressof(file),
        offsets=C.addressof(places),
        count=len(places),
        flags=_FLAG_RETURN if program.kind == "uretprobe.multi" else 0,
    )
    reasons = {errnos.EINVAL: "this kernel has no uprobe.multi (Linux 6.6), or one of the functions cannot be probed"}
    return [_link(program, what, target, attr, detail, reasons)]


def _checked(
    what: str, about: dict[str, Any], matched: Sequence[int], names: Callable[[], Iterable[str]], why: str
) -> str:
    """Say how many functions matched; raises `Fault` when it is none, or very many."""
    if not matched:
        pattern = about["target"].rpartition(":")[2]
        raise Fault("attach", what, why, near=near.close(re.sub(r"[*?\[\]]", "", pattern), names()), **about)
    if len(matched) > MAX_FUNCTIONS:
        why = f"it matches {len(matched):,} functions; {MAX_FUNCTIONS:,} is the limit"
        raise Fault("attach", what, why, "Take a narrower pattern.", **about)
    return f"{len(matched):,} function{'s' if len(matched) > 1 else ''}"


def _link(program: Program, what: str, target: str, attr: C.Structure, detail: str, reasons: dict[int, str]) -> LinkFd:
    fd = bpf.call(bpf.LINK_CREATE, attr)
    if fd < 0:
        fault = refused(program, what, target, C.get_errno(), [], reasons)
        if fault.fields["why"] in reasons.values():
            fault.fields["hint"] = _IN_A_VM
        raise fault
    return LinkFd(fd, detail)
