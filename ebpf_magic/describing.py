"""What a target is, as C: a tracepoint's record, a function, a hook, an iterator, a system call, a type."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ebpf_magic import cell_texts, finding, kernel_types
from ebpf_magic.agent import near
from ebpf_magic.cell_texts import Cell
from ebpf_magic.data import c_types, kinds, tracepoint
from ebpf_magic.errors import EbpfMagicError, NoSuchNameError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebpf_magic.data.btf import Btf
    from ebpf_magic.hosts.base import AgentHost

_TYPES = {"struct": kinds.STRUCT, "union": kinds.UNION, "enum": kinds.ENUM, "typedef": kinds.TYPEDEF}
_TRACEPOINTS = ("tracepoint", "tp")
_RAW = ("raw_tp", "raw_tracepoint", "tp_btf")
_FUNCTIONS = ("fentry", "fexit", "kprobe", "kretprobe", "fmod_ret")
_MAX_FENTRY_ARGUMENTS = 6  # in registers; the kernel of some processors takes more


@dataclass(frozen=True)
class Description:
    """What a target is, and a cell that works on it.

    Attributes
    ----------
    kind : str
        ``tracepoint``, ``raw_tp``, ``syscall``, ``function``, ``lsm``, ``iter``, ``struct``, ``union``, ``enum`` or
        ``typedef``.
    name : str
        What it is called.
    c : str
        What it is, as C.
    source : str
        The source of a cell that works on it, for :func:`ebpf_magic.run`; empty where nothing can.
    options : mapping
        More arguments that it needs: ``ebpf_magic.run(d.source, **d.options)``.
    """

    kind: str
    name: str
    c: str
    source: str = ""
    options: Mapping[str, object] = field(default_factory=dict)

    @property
    def cell(self) -> str:
        """The cell with its first line, ready to paste."""
        if not self.source:
            return ""
        name = "".join(letter if letter.isalnum() else "_" for letter in self.name)
        if keyword.iskeyword(name) or name[:1].isdigit():  # struct class, 9p/9p_client_req
            name = f"on_{name}"
        words = ["%%ebpf", name]
        attach = self.options.get("attach")
        if isinstance(attach, Mapping):
            words += [f"--attach {program}={where}" for program, where in attach.items()]
        if self.options.get("allow_change"):
            words.append("--allow-change")
        return f"{' '.join(words)}\n{self.source}"

    def __repr__(self) -> str:
        return f"{self.c}\n\n{self.cell}".rstrip()

    def _repr_markdown_(self) -> str:
        what, cell = (f"```c\n{part.strip()}\n```" for part in (self.c, self.cell))
        return f"{what}\n\nA cell that works on it:\n\n{cell}" if self.cell else what


def describe(target: str, on: str = "auto") -> Description:
    """Describe a target as C, with a cell that works on it.

    Parameters
    ----------
    target : str
        As a section has it: ``tracepoint/sched/sched_switch``, ``fentry/vfs_read``, ``kprobe/vfs_read``,
        ``lsm/file_open``, ``iter/task``, ``tp_btf/sched_switch``; ``syscall/openat``; ``struct task_struct``, and a
        member of it: ``task_struct.se``. A name alone is looked for in this order: tracepoint, system call, struct,
        function, hook, iterator, other types.
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
    """
    from ebpf_magic.hosts import registry

    host = registry.get(on)
    words = target.replace(":", "/", 1).strip()
    kind, separator, name = words.partition("/")
    if not separator:
        first, _, rest = words.partition(" ")
        kind, name = (first, rest.strip()) if first in _TYPES else ("", words)
    if kind.removesuffix(".s") in ("fentry", "fexit", "fmod_ret", "lsm", "iter"):
        kind = kind.removesuffix(".s")
    if not name:
        raise UsageError(f"describe {target!r}", "it names nothing", "Such as describe('vfs_read').")
    described = _described(host, kind, name)
    if described is None:
        raise _nothing(host, target, kind, name)
    return described


def _described(host: AgentHost, kind: str, name: str) -> Description | None:
    if kind in _TRACEPOINTS:
        category, _, event = name.replace(":", "/").partition("/")
        return _tracepoint(host, category, event) if event else _bare_tracepoint(host, category)
    if kind in _FUNCTIONS:
        return _function(host, name, kind)
    if kind in _TYPES:
        return _type(host, name, kind)
    known: dict[str, Callable[[AgentHost, str], Description | None]] = {
        **dict.fromkeys(_RAW, _raw_tracepoint),
        **dict.fromkeys(("syscall", "ksyscall", "kretsyscall"), _syscall),
        "lsm": _hook,
        "iter": _iterator,
    }
    if kind in known:
        return known[kind](host, name)
    if kind:  # CATEGORY/NAME
        return _tracepoint(host, kind, name)
    searches: Sequence[Callable[[AgentHost, str], Description | None]] = (
        *(_bare_tracepoint, _syscall, _struct, _function, _hook, _iterator, _raw_tracepoint),
        *(lambda host, name, each=each: _type(host, name, each) for each in ("union", "enum", "typedef")),
    )
    for search in searches:
        if found := search(host, name):
            return found
    return None


def _bare_tracepoint(host: AgentHost, name: str) -> Description | None:
    if not name.isidentifier():
        return None
    for found in host.find("tracepoint", name):
        category, _, event = found.partition("/")
        if event == name:
            return _tracepoint(host, category, event)
    return None


def _tracepoint(host: AgentHost, category: str, name: str) -> Description:
    record = tracepoint.fields(host.tracepoint_format(category, name))
    btf = kernel_types.of(host)
    struct_name = cell_texts.record_name(name)
    while struct_name in btf.names(kinds.STRUCT):
        struct_name += "_"
    text = tracepoint.struct(struct_name, record)
    if name in kernel_types.raw_tracepoints(btf):
        text = f"/* With types: tp_btf/{name} ({_typed(btf, name)}) */\n{text}"
    cell = cell_texts.of_tracepoint(category, name, struct_name, record)
    return Description("tracepoint", f"{category}/{name}", text, *cell)


def _raw_tracepoint(host: AgentHost, name: str) -> Description | None:
    btf = kernel_types.of(host)
    if name not in kernel_types.raw_tracepoints(btf):
        return None
    cell = cell_texts.of_raw_tracepoint(btf, name, kernel_types.arguments(btf, name))
    return Description("raw_tp", name, f"void {name}({_typed(btf, name)});", *cell)


def _syscall(host: AgentHost, name: str) -> Description | None:
    if not name.isidentifier() or not host.find("syscall", name):
        return None
    entry = f"sys_enter_{name}"
    record = tracepoint.fields(host.tracepoint_format("syscalls", entry))
    text = f"long {name}({', '.join(tracepoint.arguments(record)) or 'void'});"
    cell = cell_texts.of_tracepoint("syscalls", entry, f"{entry}_record", record)
    return Description("syscall", name, text, *cell)


def _function(host: AgentHost, name: str, kind: str = "") -> Description | None:
    btf = kernel_types.of(host)
    type_id = btf.names(kinds.FUNC).get(name)
    if type_id is None:
        return None
    text = f"{finding.prototype(btf, name, type_id)};"
    proto = kernel_types.function_type(btf, type_id)
    if not host.find("function", name):
        return Description("function", name, f"/* It cannot be probed: inlined, or the kernel forbids it. */\n{text}")
    arguments = btf.parameters(proto)
    plain = all(cell_texts.fits_register(btf, type_id) for _, type_id in arguments)
    if not kind:
        kind = "fentry" if plain and len(arguments) <= _MAX_FENTRY_ARGUMENTS else "kprobe"
    options: dict[str, object] = {"allow_change": True} if kind == "fmod_ret" else {}
    if kind == "kretprobe":
        return Description("function", name, text, *cell_texts.of_return(name))
    return Description("function", name, text, *cell_texts.of_function(btf, name, proto, f"{kind}/{name}", options))


def _hook(host: AgentHost, name: str) -> Description | None:
    btf = kernel_types.of(host)
    type_id = kernel_types.lsm_hooks(btf).get(name)
    if type_id is None:
        return None
    proto = kernel_types.function_type(btf, type_id)
    cell = cell_texts.of_function(btf, name, proto, f"lsm/{name}", {"allow_change": True})
    return Description("lsm", name, f"{finding.prototype(btf, name, type_id)};", *cell)


def _iterator(host: AgentHost, name: str) -> Description | None:
    btf = kernel_types.of(host)
    type_id = kernel_types.iterators(btf).get(name)
    if type_id is None:
        return None
    cell = cell_texts.of_iterator(btf, name, btf.type(type_id))
    return Description("iter", name, c_types.definition(btf, type_id), *cell)


def _struct(host: AgentHost, name: str) -> Description | None:
    return _type(host, name, "struct")


def _type(host: AgentHost, path: str, what: str) -> Description | None:
    btf = kernel_types.of(host)
    name, *members = path.split(".")
    type_id = btf.names(_TYPES[what]).get(name)
    if type_id is None and what == "enum":
        type_id = btf.names(kinds.ENUM64).get(name)
    if type_id is None:
        return None
    if members:
        return _member(btf, what, name, type_id, members)
    return Description(what, name, c_types.definition(btf, type_id), *_cell_of_type(btf, what, name))


def _cell_of_type(btf: Btf, what: str, name: str) -> Cell:
    if what not in ("struct", "union"):
        return Cell("")
    return cell_texts.of_struct(btf, what, name, _met(btf, name) if what == "struct" else None)


def _member(btf: Btf, what: str, name: str, type_id: int, members: list[str]) -> Description:
    """Describe a member by its path, with where it lies."""
    path, bits, inner = name, 0, type_id
    for wanted in members:
        found = btf.resolve(inner)
        by_name = {each: (at, type_id) for each, at, type_id in cell_texts.places(btf, found)}
        if wanted not in by_name:
            tried = f"describe {what} {path}.{wanted}"
            raise NoSuchNameError(tried, "no such member", near=near.close(wanted, by_name))
        at, inner = by_name[wanted]
        path, bits = f"{path}.{wanted}", bits + at
    target = btf.resolve(inner)
    where = f"/* {what} {path}: byte {bits // 8} */"
    text = f"{where}\n{c_types.declaration(btf, inner, members[-1])};"
    if target.kind in (kinds.STRUCT, kinds.UNION) and target.name:
        ids = btf.names(target.kind)
        text += f"\n\n{c_types.definition(btf, ids[target.name])}"
    return Description(what, path, text, *_cell_of_type(btf, what, name))


def _met(btf: Btf, name: str) -> tuple[str, Sequence[tuple[str, int]], int] | None:
    """Find a raw tracepoint that hands a struct out: its name, its arguments, and which of them it is."""
    found = []
    for point in kernel_types.raw_tracepoints(btf):
        arguments = kernel_types.arguments(btf, point)
        if not all(cell_texts.fits_register(btf, type_id) for _, type_id in arguments):
            continue
        for which, (_, type_id) in enumerate(arguments):
            pointer = btf.resolve(type_id)
            if pointer.kind == kinds.PTR:
                target = btf.resolve(pointer.ref)
                if target.kind == kinds.STRUCT and target.name == name:
                    found.append((which, len(arguments), point, arguments))
    if not found:
        return None
    which, _, point, arguments = min(found, key=lambda each: each[:3])
    return point, arguments, which


def _typed(btf: Btf, name: str) -> str:
    return ", ".join(c_types.declaration(btf, type_id, each) for each, type_id in kernel_types.arguments(btf, name))


def _nothing(host: AgentHost, target: str, kind: str, name: str) -> EbpfMagicError:
    """Make the error for a name that nothing has, with those that are near."""
    btf = kernel_types.of(host)
    base = name.partition(".")[0]
    pools: dict[str, Callable[[], Sequence[str]]] = {
        **dict.fromkeys(_RAW, lambda: list(kernel_types.raw_tracepoints(btf))),
        **dict.fromkeys(("syscall", "ksyscall", "kretsyscall"), lambda: host.find("syscall", "*")),
        **dict.fromkeys(_FUNCTIONS, lambda: list(btf.names(kinds.FUNC))),
        **{word: lambda number=number: list(btf.names(number)) for word, number in _TYPES.items()},  # type: ignore[misc]
        "lsm": lambda: list(kernel_types.lsm_hooks(btf)),
        "iter": lambda: list(kernel_types.iterators(btf)),
        **dict.fromkeys(_TRACEPOINTS, lambda: [each.rpartition("/")[2] for each in host.find("tracepoint", "*")]),
    }
    wanted = [kind] if kind in pools else ["tp", "syscall", "struct", "fentry", "lsm", "iter"]
    names = {found for each in wanted for found in pools[each]()}
    why = f"the kernel has no {kind} of that name" if kind else "the kernel has nothing of that name"
    hint = f"Iterators: {', '.join(sorted(names))}." if kind == "iter" else ""
    return NoSuchNameError(f"describe {target!r}", why, hint, near=near.close(base, names))
