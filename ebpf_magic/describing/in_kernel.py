"""Places in the kernel where programs go, as C: tracepoints, system calls, functions, hooks, iterators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebpf_magic import cell_texts, finding, kernel_types
from ebpf_magic.data import c_types, kinds, tracepoint
from ebpf_magic.describing.description import Description

if TYPE_CHECKING:
    from ebpf_magic.data.btf import Btf
    from ebpf_magic.hosts.base import AgentHost

_MAX_FENTRY_ARGUMENTS = 6  # in registers; the kernel of some processors takes more
_MOST_SHOWN = 20
_KFUNC = "bpf_kfunc"  # pahole's tag, since its 1.26


def bare_tracepoint(host: AgentHost, name: str) -> Description | None:
    """Describe the tracepoint of that name, whatever its category."""
    if not name.isidentifier():
        return None
    for found in host.find("tracepoint", name):
        category, _, event = found.partition("/")
        if event == name:
            return by_category(host, category, event)
    return None


def by_category(host: AgentHost, category: str, name: str) -> Description:
    """Describe a tracepoint by its record; AttachError where there is none."""
    record = tracepoint.fields(host.tracepoint_format(category, name))
    btf = kernel_types.of(host)
    struct_name = cell_texts.record_name(name)
    while struct_name in btf.names(kinds.STRUCT):
        struct_name += "_"
    text = tracepoint.struct(struct_name, record)
    if category != "syscalls":  # they have no raw tracepoint each
        for module, types in kernel_types.each(host):
            if name in kernel_types.raw_tracepoints(types):
                text = f"{_of(module)}/* With types: tp_btf/{name} ({_typed(types, name)}) */\n{text}"
                break
    cell = cell_texts.of_tracepoint(category, name, struct_name, record)
    return Description("tracepoint", f"{category}/{name}", text, *cell)


def raw_tracepoint(host: AgentHost, name: str) -> Description | None:
    """Describe a tracepoint by its typed arguments."""
    for module, btf in kernel_types.each(host):
        if name in kernel_types.raw_tracepoints(btf):
            cell = cell_texts.of_raw_tracepoint(btf, name, kernel_types.arguments(btf, name))
            return Description("raw_tp", name, f"{_of(module)}void {name}({_typed(btf, name)});", *cell)
    return None


def syscall(host: AgentHost, name: str, kind: str = "") -> Description | None:
    """Describe a system call; its cell counts entries by the tracepoint, or with `kind` by its function."""
    if not name.isidentifier() or not host.find("syscall", name):
        return None
    entry = f"sys_enter_{name}"
    record = tracepoint.fields(host.tracepoint_format("syscalls", entry))
    arguments = tracepoint.arguments(record)
    text = f"long {name}({', '.join(arguments) or 'void'});"
    if kind == "kretsyscall":
        cell = cell_texts.of_return(f"kretsyscall/{name}", name)
    elif kind == "ksyscall":
        cell = cell_texts.of_syscall(name, record)
    else:
        cell = cell_texts.of_tracepoint("syscalls", entry, f"{entry}_record", record)
    return Description("syscall", name, text, *cell)


def function(host: AgentHost, name: str, kind: str = "") -> Description | None:
    """Describe a function of the kernel or of a module; `kind` is how its cell goes there."""
    for module, btf in kernel_types.each(host):
        if type_id := btf.names(kinds.FUNC).get(name):
            return _typed_function(host, module, btf, type_id, kind)
    if kind in ("kprobe", "kretprobe") and name in finding.traceable(host, name):
        text = f"/* The kernel's BTF does not say what {name} takes and returns. */"
        cell = (
            cell_texts.of_return(f"kretprobe/{name}", name)
            if kind == "kretprobe"
            else cell_texts.of_hit(f"kprobe/{name}", name)
        )
        return Description("function", name, text, *cell)
    return None


def _typed_function(host: AgentHost, module: str, btf: Btf, type_id: int, kind: str) -> Description:
    name = btf.type(type_id).name
    text = f"{finding.prototype(btf, name, type_id)};"
    if kind == "kfunc":
        text = f"extern {text[:-1]} __ksym;"
    text = f"{_of(module)}{text}"
    proto = kernel_types.function_type(btf, type_id)
    what = "kfunc" if kind == "kfunc" else "function"
    if name not in finding.traceable(host, name):
        return Description(what, name, f"/* It cannot be probed: inlined, or the kernel forbids it. */\n{text}")
    arguments = btf.parameters(proto)
    plain = all(cell_texts.fits_register(btf, type_id) for _, type_id in arguments)
    if kind in ("", "kfunc"):
        kind = "fentry" if plain and len(arguments) <= _MAX_FENTRY_ARGUMENTS else "kprobe"
    options: dict[str, object] = {"allow_change": True} if kind == "fmod_ret" else {}
    if kind == "kretprobe":
        return Description(what, name, text, *cell_texts.of_return(f"kretprobe/{name}", name))
    return Description(what, name, text, *cell_texts.of_function(btf, name, proto, f"{kind}/{name}", options))


def kfunc(host: AgentHost, name: str) -> Description | None:
    """Describe a function of the kernel that programs may call: as they declare it."""
    for _, btf in kernel_types.each(host):
        type_id = btf.names(kinds.FUNC).get(name)
        # A kernel whose types were made by an older pahole tags none: then what is asked for is believed.
        if type_id and (_KFUNC in btf.tags.get(type_id, ()) or not kfuncs(btf)):
            return function(host, name, "kfunc")
    return None


def kfuncs(btf: Btf) -> list[str]:
    """Name the functions that programs may call; empty where the types do not say which."""
    return [btf.type(type_id).name for type_id, tags in btf.tags.items() if _KFUNC in tags]


def functions(host: AgentHost, pattern: str, kind: str) -> Description | None:
    """Describe the functions of the kernel that a pattern matches; `kind` is kprobe.multi or kretprobe.multi."""
    found = finding.traceable(host, pattern)
    if not found:
        return None
    types = dict(kernel_types.each(host))
    lines = [f"/* {len(found):,} function{'s' if len(found) > 1 else ''}:"]
    for name, module in list(found.items())[:_MOST_SHOWN]:
        type_id = types[module].names(kinds.FUNC).get(name) if module in types else None
        text = finding.prototype(types[module], name, type_id) if type_id else name
        lines.append(f"   {text}{f'  [{module}]' if module else ''}")
    if len(found) > _MOST_SHOWN:
        lines.append(f"   and {len(found) - _MOST_SHOWN:,} more")
    cell = cell_texts.of_hit(f"{kind}/{pattern}", "any", "bpf_get_func_ip(ctx)")
    return Description("functions", pattern, "\n".join([*lines, "*/"]), *cell)


def hook(host: AgentHost, name: str) -> Description | None:
    """Describe a security hook."""
    btf = kernel_types.of(host)
    type_id = kernel_types.lsm_hooks(btf).get(name)
    if type_id is None:
        return None
    proto = kernel_types.function_type(btf, type_id)
    cell = cell_texts.of_function(btf, name, proto, f"lsm/{name}", {"allow_change": True})
    return Description("lsm", name, f"{finding.prototype(btf, name, type_id)};", *cell)


def iterator(host: AgentHost, name: str) -> Description | None:
    """Describe an iterator by its context."""
    btf = kernel_types.of(host)
    type_id = kernel_types.iterators(btf).get(name)
    if type_id is None:
        return None
    cell = cell_texts.of_iterator(btf, name, btf.type(type_id))
    return Description("iter", name, c_types.definition(btf, type_id), *cell)


def _typed(btf: Btf, name: str) -> str:
    return ", ".join(c_types.declaration(btf, type_id, each) for each, type_id in kernel_types.arguments(btf, name))


def _of(module: str) -> str:
    return f"/* Of module {c_types.plain_name(module)}. */\n" if module else ""
