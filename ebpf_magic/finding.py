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
from ebpf_magic.arguments import checked
from ebpf_magic.data import c_types, kinds
from ebpf_magic.errors import NoSuchNameError, UsageError

if TYPE_CHECKING:
    import pandas as pd

    from ebpf_magic.data.btf import Btf
    from ebpf_magic.hosts.base import AgentHost

_FILE = re.compile(r"[^*?\[:]*(?:/|\.so)[^*?\[:]*:.*")


class Found(NamedTuple):
    """A row of what `probes` gives."""

    kind: str
    name: str
    section: str
    detail: str
    module: str = ""


@checked
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
        Columns ``kind``, ``name``, ``section`` (what to write in SEC), ``detail`` (a prototype, arguments) and
        ``module`` (empty for the kernel's own). `describe` takes a row as it is.

    Raises
    ------
    NoSuchNameError
        When nothing matches; with names that are near.

    Notes
    -----
    Costs some 0.2 s for the first question to a kernel, whose types are then known, and a tenth after it. The types of
    a module are read the first time it is met, a millisecond each.
    """
    import pandas as pd

    from ebpf_magic.hosts import registry

    _check_kind(kind)
    host = registry.get(on)
    if _FILE.fullmatch(pattern):
        found = in_file(host, pattern)
    else:
        found = [row for name, search in _SEARCHES.items() if kind in (None, name) for row in search(host, pattern)]
    rows = [row for row in found if kind in (None, row.kind)]
    if not rows:
        what = f"find {kind or 'what can be probed'} by {pattern!r}"
        hint = "A pattern has * or ? for what may stand there: *open*." if not set("*?[") & set(pattern) else ""
        raise NoSuchNameError(what, "nothing matches", hint, near=_near_names(host, pattern, kind))
    return pd.DataFrame(rows, columns=list(Found._fields)).astype("str")


def is_file(pattern: str) -> bool:
    """Whether a pattern looks into a file."""
    return _FILE.fullmatch(pattern) is not None


def _check_kind(kind: str | None) -> None:
    known = [*_SEARCHES, "uprobe", "usdt"]
    if kind is not None and kind not in known:
        close = get_close_matches(kind, known)
        raise UsageError(f"find kind {kind!r}", "no such kind", f"Kinds: {', '.join(known)}.", near=close)


def _tracepoints(host: AgentHost, pattern: str) -> Iterator[Found]:
    # tracefs does not say whose a tracepoint is; its module's types do.
    modules = {name: module for module, btf in kernel_types.each(host) for name in kernel_types.raw_tracepoints(btf)}
    for name in host.find("tracepoint", pattern):
        yield Found("tracepoint", name, f"tracepoint/{name}", "", modules.get(name.partition("/")[2], ""))


def _raw(host: AgentHost, pattern: str) -> Iterator[Found]:
    for module, btf in kernel_types.each(host):
        for name in _matching(kernel_types.raw_tracepoints(btf), pattern):
            parts = [c_types.declaration(btf, type_id, each) for each, type_id in kernel_types.arguments(btf, name)]
            yield Found("raw_tp", name, f"raw_tp/{name}", f"with types: tp_btf/{name} ({', '.join(parts)})", module)


def _syscalls(host: AgentHost, pattern: str) -> Iterator[Found]:
    for name in host.find("syscall", pattern):
        section = f"tracepoint/syscalls/sys_enter_{name}"
        yield Found("syscall", name, section, f"its end: tracepoint/syscalls/sys_exit_{name}")


def _functions(host: AgentHost, pattern: str) -> Iterator[Found]:
    types = dict(kernel_types.each(host))
    for name, module in traceable(host, pattern).items():
        btf = types.get(module)
        if btf and (type_id := btf.names(kinds.FUNC).get(name)):
            yield Found("fentry", name, f"fentry/{name}", prototype(btf, name, type_id), module)


def _kprobes(host: AgentHost, pattern: str) -> Iterator[Found]:
    for name, module in traceable(host, pattern, "kprobe").items():
        yield Found("kprobe", name, f"kprobe/{name}", "", module)


def traceable(host: AgentHost, pattern: str, kind: str = "function") -> dict[str, str]:
    """Find the kernel's functions that can be probed, each with the module that it is in."""
    rows = (row.partition("\t") for row in host.find(kind, pattern))
    return {name: module for name, _, module in rows}


def _hooks(host: AgentHost, pattern: str) -> Iterator[Found]:
    btf = kernel_types.of(host)
    hooks = kernel_types.lsm_hooks(btf)
    for name in _matching(hooks, pattern):
        yield Found("lsm", name, f"lsm/{name}", prototype(btf, name, hooks[name]))


def _iterators(host: AgentHost, pattern: str) -> Iterator[Found]:
    btf = kernel_types.of(host)
    for name in _matching(kernel_types.iterators(btf), pattern):
        yield Found("iter", name, f"iter/{name}", f"struct bpf_iter__{name} *ctx")


def _attach_kinds(host: AgentHost, pattern: str) -> Iterator[Found]:
    for name in _matching(ATTACH_KINDS, pattern):
        about = ATTACH_KINDS[name]
        example = f"such as {about.example}" if about.example else ""
        yield Found("attach", name, about.sections[0], example)


_SEARCHES: dict[str, Callable[[AgentHost, str], Iterable[Found]]] = {
    "tracepoint": _tracepoints,
    "raw_tp": _raw,
    "syscall": _syscalls,
    "fentry": _functions,
    "kprobe": _kprobes,
    "lsm": _hooks,
    "iter": _iterators,
    "attach": _attach_kinds,
}


def in_file(host: AgentHost, pattern: str) -> list[Found]:
    """Find functions and probes of a program or library by PATH:PATTERN."""
    rows = []
    for line in host.find("file", pattern):
        kind, name, detail, *_ = [*line.split("\t"), "", ""]
        rows.append(Found(kind, name, f"{kind}/{name}", detail))
    return rows


def prototype(btf: Btf, name: str, type_id: int) -> str:
    """Write a function's prototype."""
    return c_types.prototype(btf, kernel_types.function_type(btf, type_id), name)


def _matching(names: Iterable[str], pattern: str) -> list[str]:
    matches = re.compile(fnmatch.translate(pattern)).match
    return sorted(name for name in names if matches(name))


def _near_names(host: AgentHost, pattern: str, kind: str | None) -> list[str]:
    """Names that exist and resemble what was looked for."""
    if is_file(pattern):
        return near_in_file(host, pattern, kind)
    rows = [row for name, search in _SEARCHES.items() if kind in (None, name) for row in _names_alone(host, name)]
    return _near_to(pattern.strip("*?").rpartition("/")[2], rows)


def near_in_file(host: AgentHost, pattern: str, kind: str | None) -> list[str]:
    """Names in a file that resemble what was looked for by PATH:PATTERN or PATH:PROVIDER:PATTERN."""
    path, _, wanted = pattern.partition(":")
    rows = [row for row in in_file(host, f"{path}:*") if kind in (None, row.kind)]
    return _near_to(wanted.rpartition(":")[2].strip("*?"), rows)


def _near_to(wanted: str, rows: list[Found]) -> list[str]:
    names = {row.name.rpartition(":")[2] for row in rows}
    bare = {name.rpartition("/")[2]: name for name in sorted(names, key=lambda name: "/" in name)}
    return [bare[name] for name in near.close(wanted, bare)]


def _names_alone(host: AgentHost, kind: str) -> Iterable[Found]:
    """All of a kind, without the details that take their time."""
    if kind in ("fentry", "kprobe"):
        return [Found(kind, name, "", "") for name in traceable(host, "*", "function" if kind == "fentry" else kind)]
    if kind == "raw_tp":
        types = kernel_types.each(host)
        return [Found(kind, name, "", "") for _, btf in types for name in kernel_types.raw_tracepoints(btf)]
    if kind == "lsm":
        return [Found(kind, name, "", "") for name in kernel_types.lsm_hooks(kernel_types.of(host))]
    return _SEARCHES[kind](host, "*")
