"""What a target is, as C, with a cell that works on it: a place where programs go, or a type."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ebpf_magic import finding, kernel_types
from ebpf_magic.agent import near
from ebpf_magic.agent.kinds import KINDS
from ebpf_magic.arguments import checked
from ebpf_magic.data import kinds
from ebpf_magic.describing import attach_kinds, in_files, in_kernel, of_types
from ebpf_magic.describing.description import Description
from ebpf_magic.errors import EbpfMagicError, NoSuchNameError, UsageError

if TYPE_CHECKING:
    import pandas as pd

    from ebpf_magic.hosts.base import AgentHost

__all__ = ["Description", "describe"]

_TRACEPOINTS = ("tracepoint", "tp")
_RAW = ("raw_tp", "raw_tracepoint", "tp_btf")
_FUNCTIONS = ("fentry", "fexit", "kprobe", "kretprobe", "fmod_ret")
_SYSCALLS = ("syscall", "ksyscall", "kretsyscall")
_IN_FILES = ("uprobe", "uretprobe", "uprobe.multi", "uretprobe.multi", "usdt")
_MULTI = ("kprobe.multi", "kretprobe.multi")
_OTHERS = ("lsm", "iter", "kfunc", "attach")
_WORDS = frozenset((*_TRACEPOINTS, *_RAW, *_FUNCTIONS, *_SYSCALLS, *_IN_FILES, *_MULTI, *of_types.KINDS, *_OTHERS))
_PATTERN = set("*?[")
_TARGET = re.compile(r"(?P<kind>[a-z_.]+)\s*[/:\s]\s*(?P<name>.*)", re.DOTALL)

_Search = Callable[["AgentHost", str], "Description | None"]


@checked
def describe(target: str | pd.Series | Mapping[str, str], on: str = "auto") -> Description:
    """Describe a target as C, with a cell that works on it.

    Parameters
    ----------
    target : str, or a row of `probes`
        As a section has it: ``tracepoint/sched/sched_switch``, ``fentry/vfs_read``, ``kprobe/vfs_read``,
        ``kprobe.multi/vfs_*``, ``lsm/file_open``, ``iter/task``, ``tp_btf/sched_switch``, ``ksyscall/openat``,
        ``uprobe/libc.so.6:malloc``, ``usdt/python3:python:gc__start``, ``xdp``; ``syscall/openat``,
        ``kfunc/bpf_task_acquire``, ``attach/socket`` (a kind of programs); ``struct task_struct``, ``enum``, ``union``
        and ``typedef``, and a member: ``task_struct.se``. A name alone is looked for in this order: tracepoint, system
        call, struct, function, hook, iterator, other types, kind of programs.
    on : str
        The host whose kernel is meant.

    Returns
    -------
    Description
        Shows its C and its cell.

    Raises
    ------
    NoSuchNameError
        When there is nothing of that name; with names that are near.

    Notes
    -----
    Of the kernel's modules those that are loaded are known.
    """
    from ebpf_magic.hosts import registry

    kind, name = _parsed(target)
    if not name:
        raise UsageError(f"describe {target!r}", "it names nothing", "Such as describe('vfs_read').")
    host = registry.get(on)
    described = _described(host, kind, name)
    if described is None:
        raise _nothing(host, f"{kind}/{name}" if kind else name, kind, name)
    return described


def _parsed(target: str | pd.Series | Mapping[str, str]) -> tuple[str, str]:
    """Part a target into the kind that it says, if it does, and the name."""
    if not isinstance(target, str):
        if not {"kind", "name"} <= set(target.keys()):
            raise UsageError(f"describe {target!r}", "it is no row of probes()", "Such as describe('vfs_read').")
        return str(target["kind"]), str(target["name"])
    words = target.strip()
    if "/" in words and attach_kinds.of_section(words):
        return "attach", words
    match = _TARGET.fullmatch(words)
    if match and (kind := match["kind"].removesuffix(".s")) in _WORDS:
        return kind, match["name"].strip()
    return "", words


def _described(host: AgentHost, kind: str, name: str) -> Description | None:
    if kind in _TRACEPOINTS:
        category, _, event = name.replace(":", "/").partition("/")
        return in_kernel.by_category(host, category, event) if event else in_kernel.bare_tracepoint(host, category)
    if kind in of_types.KINDS:
        return of_types.by_name(host, name, kind)
    if kind in _FUNCTIONS and _PATTERN & set(name):
        kind = "kretprobe.multi" if kind == "kretprobe" else "kprobe.multi"
    known: dict[str, _Search] = {
        **dict.fromkeys(_RAW, in_kernel.raw_tracepoint),
        **{each: _with_kind(in_kernel.syscall, each) for each in _SYSCALLS},
        **{each: _with_kind(in_kernel.function, each) for each in _FUNCTIONS},
        **{each: _with_kind(in_kernel.functions, each) for each in _MULTI},
        **{each: _with_kind(in_files.function, each) for each in ("uprobe", "uretprobe")},
        **{each: _with_kind(in_files.functions, each) for each in ("uprobe.multi", "uretprobe.multi")},
        "usdt": in_files.probe,
        "lsm": in_kernel.hook,
        "iter": in_kernel.iterator,
        "kfunc": in_kernel.kfunc,
        "attach": _attach_kind,
    }
    if kind:
        return known[kind](host, name)
    if finding.is_file(name):
        return _in_file(host, name)
    if _PATTERN & set(name):
        return in_kernel.functions(host, name, "kprobe.multi")
    category, slash, event = name.replace(":", "/", 1).partition("/")
    if slash:
        return in_kernel.by_category(host, category, event)
    searches: Sequence[_Search] = (
        *(in_kernel.bare_tracepoint, in_kernel.syscall, _of_type("struct"), in_kernel.function, in_kernel.hook),
        *(in_kernel.iterator, in_kernel.raw_tracepoint, _of_type("union"), _of_type("enum"), _of_type("typedef")),
        _attach_kind,
    )
    return next((found for search in searches if (found := search(host, name))), None)


def _in_file(host: AgentHost, name: str) -> Description | None:
    if _PATTERN & set(name):
        return in_files.functions(host, name, "uprobe.multi")
    return in_files.function(host, name) or in_files.probe(host, name)


def _attach_kind(host: AgentHost, name: str) -> Description | None:
    """Describe a kind of programs, by its name or by a section of it; by its example where the section has a target."""
    kind = name if name in KINDS else attach_kinds.of_section(name)
    if not kind:
        return None
    if kind in _WORDS and kind != "syscall":
        try:
            inner = _described(host, kind, KINDS[kind].example)
        except EbpfMagicError:  # this kernel, or this machine, does not have what the example names
            inner = None
        text = attach_kinds.heading(kind)
        if inner is None:
            return Description("attach", kind, text)
        return Description("attach", kind, f"{text}\n{inner.c}", inner.source, inner.options)
    return attach_kinds.of_form(host, kind, name if name != kind and "/" in name else "")


def _with_kind(search: Callable[[AgentHost, str, str], Description | None], kind: str) -> _Search:
    return lambda host, name: search(host, name, kind)


def _of_type(what: str) -> _Search:
    return lambda host, name: of_types.by_name(host, name, what)


def _nothing(host: AgentHost, target: str, kind: str, name: str) -> EbpfMagicError:
    """Make the error for a name that nothing has, with those that are near."""
    what = f"describe {target!r}"
    if kind in _IN_FILES or (not kind and finding.is_file(name)):
        if ":" not in name:
            raise UsageError(what, "a function of a file is written PATH:FUNCTION", "Such as libc.so.6:malloc.")
        near_names = finding.near_in_file(host, name, "usdt" if kind == "usdt" else None)
        return NoSuchNameError(what, "the file has no function or probe of that name", near=near_names)
    if kind == "attach":
        return NoSuchNameError(
            what, "no such kind of programs", f"Kinds: {', '.join(KINDS)}.", near=near.close(name, KINDS)
        )
    types = [btf for _, btf in kernel_types.each(host)]
    pools: dict[str, Callable[[], Sequence[str]]] = {
        **dict.fromkeys(_RAW, lambda: [each for btf in types for each in kernel_types.raw_tracepoints(btf)]),
        **dict.fromkeys(_SYSCALLS, lambda: host.find("syscall", "*")),
        **dict.fromkeys((*_FUNCTIONS, *_MULTI), lambda: [each for btf in types for each in btf.names(kinds.FUNC)]),
        **{
            word: lambda number=number: [each for btf in types for each in btf.names(number)]  # type: ignore[misc]
            for word, number in of_types.KINDS.items()
        },
        "kfunc": lambda: [each for btf in types for each in in_kernel.kfuncs(btf) or btf.names(kinds.FUNC)],
        "lsm": lambda: list(kernel_types.lsm_hooks(types[0])),
        "iter": lambda: list(kernel_types.iterators(types[0])),
        **dict.fromkeys(_TRACEPOINTS, lambda: [each.rpartition("/")[2] for each in host.find("tracepoint", "*")]),
    }
    wanted = [kind] if kind in pools else ["tp", "syscall", "struct", "fentry", "lsm", "iter"]
    names = {found for each in wanted for found in pools[each]()}
    why = f"the kernel has no {kind} of that name" if kind else "the kernel has nothing of that name"
    hint = f"Iterators: {', '.join(sorted(names))}." if kind == "iter" else ""
    return NoSuchNameError(what, why, hint, near=near.close(name.partition(".")[0], names))
