"""What can be probed: names of tracepoints, functions, hooks, iterators, and of what is in a file."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple

from ebpf_magic import kernel_types
from ebpf_magic.agent import near
from ebpf_magic.agent.kinds import KINDS as ATTACH_KINDS
from ebpf_magic.data import c_types, kinds
from ebpf_magic.errors import NoSuchNameError, UsageError

if TYPE_CHECKING:
    import pandas as pd

    from ebpf_magic.data.btf import Btf
    from ebpf_magic.hosts.base import AgentHost

_FILE = re.compile(r"[^*?\[:]*(?:/|\.so)[^*?\[:]*:.*")


class _Found(NamedTuple):
    kind: str
    name: str
    section: str
    detail: str


def probes(pattern: str = "*", kind: str | None = None, on: str = "auto") -> pd.DataFrame:
    """Find what can be probed.

    Parameters
    ----------
    pattern : str
        A name, or a shell pattern: ``*open*``, ``sched/*``. ``PATH:PATTERN`` looks into a program or library:
        ``libc.so.6:mem*``, ``/usr/bin/python3:*``.
    kind : str, optional
        Only one kind: ``tracepoint``, ``raw_tp``, ``syscall``, ``fentry``, ``kprobe``, ``lsm``, ``iter``, ``attach``
        (kinds of programs, such as xdp); in a file ``uprobe``, ``usdt``.
    on : str
        The host to ask.

    Returns
    -------
    pandas.DataFrame
        Columns ``kind``, ``name``, ``section`` (what to write in SEC) and ``detail`` (a prototype, arguments).

    Raises
    ------
    NoSuchNameError
        When nothing matches; with names that are near.

    Notes
    -----
    Costs some 0.2 s for the first question to a kernel, whose types are then known, and a tenth after it. Functions of
    modules have no types here: they are found as kprobes only.
    """
    import pandas as pd

    from ebpf_magic.hosts import registry

    _check_kind(kind)
    host = registry.get(on)
    if _FILE.fullmatch(pattern):
        found = _in_file(host, pattern)
    else:
        found = [row for name, search in _SEARCHES.items() if kind in (None, name) for row in search(host, pattern)]
    rows = [row for row in found if kind in (None, row.kind)]
    if not rows:
        what = f"find {kind or 'what can be probed'} by {pattern!r}"
        near_names = _near(host, pattern, kind)
        hint = "A pattern has * or ? for what may stand there: *open*." if not set("*?[") & set(pattern) else ""
        raise NoSuchNameError(what, "nothing matches", hint, near=near_names)
    return pd.DataFrame(rows, columns=list(_Found._fields)).astype("str")


def is_file(pattern: str) -> bool:
    """Whether a pattern looks into a file."""
    return _FILE.fullmatch(pattern) is not None


def _check_kind(kind: str | None) -> None:
    known = [*_SEARCHES, "uprobe", "usdt"]
    if kind is not None and kind not in known:
        near_names = get_close_matches(kind, known)
        raise UsageError(f"find kind {kind!r}", "no such kind", f"Kinds: {', '.join(known)}.", near=near_names)


def _tracepoints(host: AgentHost, pattern: str) -> Iterator[_Found]:
    for name in host.find("tracepoint", pattern):
        yield _Found("tracepoint", name, f"tracepoint/{name}", "")


def _raw(host: AgentHost, pattern: str) -> Iterator[_Found]:
    btf = kernel_types.of(host)
    for name in _matching(kernel_types.raw_tracepoints(btf), pattern):
        parts = [c_types.declaration(btf, type_id, each) for each, type_id in kernel_types.arguments(btf, name)]
        yield _Found("raw_tp", name, f"raw_tp/{name}", f"with types: tp_btf/{name} ({', '.join(parts)})")


def _syscalls(host: AgentHost, pattern: str) -> Iterator[_Found]:
    for name in host.find("syscall", pattern):
        section = f"tracepoint/syscalls/sys_enter_{name}"
        yield _Found("syscall", name, section, f"its end: tracepoint/syscalls/sys_exit_{name}")


def _functions(host: AgentHost, pattern: str) -> Iterator[_Found]:
    btf = kernel_types.of(host)
    typed = btf.names(kinds.FUNC)
    for name in host.find("function", pattern):
        if name in typed:
            yield _Found("fentry", name, f"fentry/{name}", prototype(btf, name, typed[name]))


def _kprobes(host: AgentHost, pattern: str) -> Iterator[_Found]:
    for name in host.find("kprobe", pattern):
        yield _Found("kprobe", name, f"kprobe/{name}", "")


def _hooks(host: AgentHost, pattern: str) -> Iterator[_Found]:
    btf = kernel_types.of(host)
    hooks = kernel_types.lsm_hooks(btf)
    for name in _matching(hooks, pattern):
        yield _Found("lsm", name, f"lsm/{name}", prototype(btf, name, hooks[name]))


def _iterators(host: AgentHost, pattern: str) -> Iterator[_Found]:
    btf = kernel_types.of(host)
    for name in _matching(kernel_types.iterators(btf), pattern):
        yield _Found("iter", name, f"iter/{name}", f"struct bpf_iter__{name} *ctx")


def _attach_kinds(host: AgentHost, pattern: str) -> Iterator[_Found]:
    for name in _matching(ATTACH_KINDS, pattern):
        about = ATTACH_KINDS[name]
        example = f"such as {about.example}" if about.example else ""
        yield _Found("attach", name, about.sections[0], example)


_SEARCHES: dict[str, Callable[[AgentHost, str], Iterable[_Found]]] = {
    "tracepoint": _tracepoints,
    "raw_tp": _raw,
    "syscall": _syscalls,
    "fentry": _functions,
    "kprobe": _kprobes,
    "lsm": _hooks,
    "iter": _iterators,
    "attach": _attach_kinds,
}


def _in_file(host: AgentHost, pattern: str) -> list[_Found]:
    rows = []
    for line in host.find("file", pattern):
        kind, name, detail, *_ = [*line.split("\t"), "", ""]
        rows.append(_Found(kind, name, f"{kind}/{name}", detail))
    return rows


def prototype(btf: Btf, name: str, type_id: int) -> str:
    """Write a function's prototype."""
    return c_types.prototype(btf, kernel_types.function_type(btf, type_id), name)


def _matching(names: Iterable[str], pattern: str) -> list[str]:
    matches = re.compile(fnmatch.translate(pattern)).match
    return sorted(name for name in names if matches(name))


def _near(host: AgentHost, pattern: str, kind: str | None) -> list[str]:
    """Names that exist and resemble what was looked for."""
    path, colon, wanted = pattern.rpartition(":") if is_file(pattern) else ("", "", pattern)
    wanted = wanted.strip("*?")
    if colon:
        rows = _in_file(host, f"{path}:*")
    else:
        rows = [row for name, search in _SEARCHES.items() if kind in (None, name) for row in _names_alone(host, name)]
    names = {row.name.rpartition(":")[2] for row in rows}
    bare = {name.rpartition("/")[2]: name for name in sorted(names, key=lambda name: "/" in name)}
    return [bare[name] for name in near.close(wanted.rpartition("/")[2], bare)]


def _names_alone(host: AgentHost, kind: str) -> Iterable[_Found]:
    """All of a kind, without the details that take their time."""
    if kind in ("fentry", "kprobe"):
        return [_Found(kind, name, "", "") for name in host.find("function" if kind == "fentry" else kind, "*")]
    if kind == "raw_tp":
        return [_Found(kind, name, "", "") for name in kernel_types.raw_tracepoints(kernel_types.of(host))]
    if kind == "lsm":
        return [_Found(kind, name, "", "") for name in kernel_types.lsm_hooks(kernel_types.of(host))]
    return _SEARCHES[kind](host, "*")
