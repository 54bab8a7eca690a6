"""Types of the kernel and its modules, as C: structs and their members, unions, enums, typedefs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebpf_magic import cell_texts, kernel_types
from ebpf_magic.agent import near
from ebpf_magic.cell_texts import Cell
from ebpf_magic.data import c_types, kinds
from ebpf_magic.describing.description import Description
from ebpf_magic.errors import NoSuchNameError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebpf_magic.data.btf import Btf, Type
    from ebpf_magic.hosts.base import AgentHost

KINDS = {"struct": kinds.STRUCT, "union": kinds.UNION, "enum": kinds.ENUM, "typedef": kinds.TYPEDEF}


def by_name(host: AgentHost, path: str, what: str) -> Description | None:
    """Describe a type, or with ``NAME.MEMBER`` a member of one; `what` is one of KINDS."""
    name, *members = path.split(".")
    for module, btf in kernel_types.each(host):
        type_id = btf.names(KINDS[what]).get(name)
        if type_id is None and what == "enum":
            type_id = btf.names(kinds.ENUM64).get(name)
        if type_id is not None:
            found = _member(btf, what, name, type_id, members) if members else c_types.definition(btf, type_id)
            text = f"/* Of module {c_types.plain_name(module)}. */\n{found}" if module else found
            return Description(what, path, text, *_cell(btf, what, name, type_id))
    return None


def _member(btf: Btf, what: str, name: str, type_id: int, members: list[str]) -> str:
    """Write a member that is found by its path, with where it lies."""
    path, bits, inner = name, 0, type_id
    for wanted in members:
        found = btf.resolve(inner)
        by_name = {each: (at, type_id) for each, at, type_id in cell_texts.places(btf, found)}
        if wanted not in by_name:
            tried = f"describe {what} {path}.{wanted}"
            raise NoSuchNameError(tried, "no such member", near=near.close(wanted, by_name))
        at, inner = by_name[wanted]
        path, bits = f"{path}.{wanted}", bits + at
    where = f"/* {what} {path}: byte {bits // 8} */"
    text = f"{where}\n{c_types.declaration(btf, inner, members[-1])};"
    target = btf.resolve_id(inner)
    if btf.type(target).kind in (kinds.STRUCT, kinds.UNION) and btf.type(target).name:
        text += f"\n\n{c_types.definition(btf, target)}"
    return text


def _cell(btf: Btf, what: str, name: str, type_id: int) -> Cell:
    if what == "struct":
        return cell_texts.of_struct(btf, what, name, type_id, _met(btf, name))
    if btf.adds(type_id):  # a module's: vmlinux.h does not have it
        return Cell("")
    if what == "union":
        return cell_texts.of_struct(btf, what, name, type_id, None)
    if what == "enum":
        return cell_texts.of_enum(name, btf.enumerator_list(btf.type(type_id)))
    return cell_texts.of_typedef(name) if _has_size(btf, btf.resolve(type_id)) else Cell("")


def _has_size(btf: Btf, of: Type) -> bool:
    """Whether C knows the size of a type: not that of void, of a function, of what is only declared, or of no array."""
    if of.kind == kinds.ARRAY:
        return _has_size(btf, btf.resolve(btf.array(of)[0]))
    return of.kind not in (0, kinds.FUNC_PROTO, kinds.FWD)


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
