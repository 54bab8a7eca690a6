"""Run cells and objects: the options checked, and a session in the place of the one before."""

from __future__ import annotations

import itertools
import keyword
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any, NamedTuple

from ebpf_magic import build, register
from ebpf_magic.arguments import checked
from ebpf_magic.errors import NoSuchNameError, UnsupportedError, UsageError
from ebpf_magic.group import Group
from ebpf_magic.hosts.base import MAP_BUDGET_BYTES, MAX_CPU, AgentHost
from ebpf_magic.session import Session
from ebpf_magic.starting import Cell

# Every cell that ran, by name: others may be linked with it.
_sources: dict[str, _Ran] = {}
_lock = threading.Lock()
_unnamed = itertools.count(1)


class _Ran(NamedTuple):
    """A cell, the folders of its headers, and the names of the cells that it was linked with."""

    text: str
    include: tuple[str, ...]
    others: tuple[str, ...] = ()


@checked
def run(
    source: str,
    name: str | None = None,
    engine: str = "auto",
    on: str | AgentHost | Sequence[str | AgentHost] = "auto",
    attach: Mapping[str, str] | bool | None = None,
    for_s: float | None = None,
    *,
    set: Mapping[str, Any] | None = None,
    keep_maps: bool = False,
    allow_change: bool = False,
    map_budget_bytes: int = MAP_BUDGET_BYTES,
    max_cpu: float = MAX_CPU,
    optional: Sequence[str] = (),
    with_cells: Sequence[str] = (),
    include: Sequence[str] = (),
    clang: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Session | Group:
    """Compile C, load it into the kernel and attach it.

    Parameters
    ----------
    source : str
        eBPF C. Without a single ``#include`` it gets vmlinux.h, libbpf's helpers, ebpf_magic.h and a GPL licence.
    name : str, optional
        A running session of the same name is replaced: the new one is attached before the old one goes, and when the
        new one fails, the old one runs on.
    engine : str
        ``libbpf``, or ``auto``.
    on : str or host, or a sequence of them
        ``local`` (this process may load programs), ``sudo``, ``vm`` or ``vm:6.1`` (a kernel of one's own, booted on
        first use), or ``auto``: the first of them that works. Or a machine of its own that :func:`ebpf_magic.hosts.vm`
        gave, which its maker closes. Several, such as ``["vm:6.1", "vm:6.12"]``, give one
        session whose frames have an index level ``host``.
    attach : mapping, optional
        Where programs go whose section does not say it: ``{"sample": "cpu-clock:99hz"}``, and for freplace
        ``{"new": "SESSION:FUNCTION"}``. The kind may stand before it: ``"uprobe:libc.so.6:malloc"``. ``"off"`` leaves
        a program out. False attaches nothing; then programs of every kind may be loaded without `allow_change`, and
        run by :meth:`Session.run`.
    for_s : float, optional
        Stop by itself after so many seconds; held by the agent.
    set : mapping, optional
        What global variables begin with, by name, before the programs are loaded: ``{"limit": 10}``. Also fields:
        ``{"conn.pid": 1}``. A constant must be ``const volatile``.
    keep_maps : bool
        Carry the contents of maps whose type did not change over from the session that is replaced.
    allow_change : bool
        Allow programs that can change what the machine does.
    map_budget_bytes : int
        Refuse to load when the maps could take more kernel memory than this.
    max_cpu : float
        Detach when the programs take more than this share of one core.
    optional : sequence of str
        Programs without which the rest may go on, where this kernel cannot load or attach them. The session's
        `warnings` say which were left out, and why.
    with_cells : sequence of str
        Names of cells of this process that ran before, whose functions, maps and variables this one declares
        ``extern``: they are compiled again for its kernel and linked with it.
    include : sequence of str
        Folders to look for headers in, after the working folder: where the rest of a repository lies, say.
    clang : str, optional
        The compiler to use.
    progress : callable, optional
        Told in a few words what is waited for while a host starts.

    Returns
    -------
    Session or Group
        A `Group`, which answers like a Session, when several hosts were named.

    Raises
    ------
    CompileError, LinkError, VerifierError, AttachError, NotPermittedError, GuardError, NoHostError, UsageError
        Each says what was tried, why it failed and what to do; nothing stays in the kernel.

    Requires
    --------
    Linux 5.8 or later with BTF, clang 14 or later, and the right to load programs (root, capabilities, or ``sudo -n``).
    """
    _check_options(name, engine, for_s, max_cpu, map_budget_bytes)
    name = name or f"ebpf{next(_unnamed)}"
    others = _linked(name, tuple(with_cells))
    this = _Ran(source, tuple(include), tuple(others))
    make = partial(_compiled, this, name, others, clang)
    cell = Cell(
        make=make,
        name=name,
        attach=attach,
        for_s=for_s,
        initial=set or {},
        keep_maps=keep_maps,
        allow_change=allow_change,
        map_budget_bytes=map_budget_bytes,
        max_cpu=max_cpu,
        optional=tuple(optional),
        previous=register.running(name),
        progress=progress,
    )
    session = _start(cell, on)
    with _lock:
        _sources[name] = this
    return session


@checked
def load_object(
    path: str | os.PathLike[str],
    name: str | None = None,
    on: str | AgentHost | Sequence[str | AgentHost] = "auto",
    attach: Mapping[str, str] | bool | None = None,
    for_s: float | None = None,
    *,
    set: Mapping[str, Any] | None = None,
    keep_maps: bool = False,
    allow_change: bool = False,
    map_budget_bytes: int = MAP_BUDGET_BYTES,
    max_cpu: float = MAX_CPU,
    optional: Sequence[str] = (),
    progress: Callable[[str], None] | None = None,
) -> Session | Group:
    """Load a compiled object into the kernel and attach it; the rest is as with :func:`run`.

    Parameters
    ----------
    path : str or path-like
        An ELF object for BPF: of clang, bpf2go (Go) or aya (Rust). Its maps and variables are typed by its BTF;
        without BTF they are bytes.
    name : str, optional
        The session's name; that of the file when not given.
    on, attach, for_s, set, keep_maps, allow_change, map_budget_bytes, max_cpu, optional, progress
        As with :func:`run`.

    Returns
    -------
    Session or Group

    Raises
    ------
    LoadError
        The file is no BPF object, or is damaged.
    NoSuchNameError
        There is no such file.
    VerifierError, AttachError, NotPermittedError, GuardError, NoHostError, UsageError
        As with :func:`run`.
    """
    name = name or build.name_of(path)
    _check_options(name, "auto", for_s, max_cpu, map_budget_bytes)
    ready = build.read_object(path)
    cell = Cell(
        make=lambda kernel: ready,
        name=name,
        attach=attach,
        for_s=for_s,
        initial=set or {},
        keep_maps=keep_maps,
        allow_change=allow_change,
        map_budget_bytes=map_budget_bytes,
        max_cpu=max_cpu,
        optional=tuple(optional),
        previous=register.running(name),
        progress=progress,
    )
    return _start(cell, on)


def _compiled(
    cell: _Ran, name: str, others: Mapping[str, _Ran], clang: str | None, kernel: build.KernelTarget
) -> build.Built:
    """Compile a cell, and link it with those that it names."""
    built = build.compile_cell(cell.text, kernel=kernel, clang=clang, include=cell.include)
    if others:
        parts = {
            each: build.compile_cell(other.text, kernel=kernel, clang=clang, include=other.include)
            for each, other in others.items()
        }
        built = build.link(built, parts, name)
    build.check_resolved(built, name)
    return built


def _start(cell: Cell, on: str | AgentHost | Sequence[str | AgentHost]) -> Session | Group:
    """Bring a cell into the kernel of one host or several, in the place of what had its name."""
    session = cell.start_on(on)
    try:
        build.settle()
    except BaseException:  # an interrupt: nobody would have the session to stop it
        session.stop()
        raise
    register.replace(cell.previous, session)
    return session


def _linked(name: str, with_cells: tuple[str, ...]) -> dict[str, _Ran]:
    """Find the cells to link with, and of those that they were linked with themselves."""
    found: dict[str, _Ran] = {}
    wanted = list(with_cells)
    while wanted:
        other = wanted.pop(0)
        if other == name:
            raise UsageError(f"link {name} with {other}", "a cell cannot be linked with itself")
        with _lock:
            if other not in _sources:
                raise NoSuchNameError(
                    f"link {name} with {other}",
                    "no cell of that name ran before",
                    f"Cells: {', '.join(_sources) or 'none'}. With --no-attach a cell is only compiled and loaded.",
                    near=get_close_matches(other, _sources),
                )
            cell = _sources[other]
        if other not in found:
            found[other] = cell
            wanted += [each for each in cell.others if each != name]
    return found


def start_unlisted(source: str, name: str, on: str) -> Session:
    """Start a session that `sessions` does not list and that no other replaces; `stop_all` stops it too."""
    session = Cell(make=partial(_compiled, _Ran(source, ()), name, {}, None), name=name).start(on)
    build.keep()
    register.keep_unlisted(session)
    return session


def _check_options(name: str | None, engine: str, for_s: float | None, max_cpu: float, budget: int) -> None:
    if name is not None and (not name.isidentifier() or keyword.iskeyword(name)):
        raise UsageError(f"session name {name!r}", "it must be a Python name, since the session is bound to it")
    if engine not in ("auto", "libbpf"):
        raise UnsupportedError(f"engine {engine!r}", "only libbpf is offered yet", "Leave engine out.")
    if for_s is not None and not 0 < for_s < float("inf"):
        raise UsageError(f"run for {for_s!r} s", "the time must be above 0")
    if not 0 < max_cpu < float("inf"):
        raise UsageError(f"max_cpu {max_cpu!r}", "it is a share of one core above 0, such as 0.25")
    if budget <= 0:
        raise UsageError(f"map budget of {budget!r} bytes", "it must be above 0")
