"""What an object says of its maps and variables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ebpf_magic.data.elf import BtfError
from ebpf_magic.data.kinds import ARRAY, PTR, STRUCT, VAR
from ebpf_magic.data.layout import Layout, bytes_layout

if TYPE_CHECKING:
    from ebpf_magic.data.btf import Btf, Type

_TAG = "ebpf_magic."
_STATIC = 0  # BTF_VAR_STATIC


@dataclass(frozen=True)
class MapSpec:
    """A map as the object declares it.

    Attributes
    ----------
    name : str
        Its full name (the kernel keeps only 15 characters).
    kind : str
        What ebpf_magic.h made it for: "" (a plain map), "hist", "hist_by", "start", ...
    unit : str
        The unit of what it measures; may be empty.
    key, value : Layout, optional
        None where the map has none (a ring buffer).
    type_id : int
        The kernel's number of the map type (1 is a hash).
    max_entries : int
        The number of entries it was declared with.
    """

    name: str
    kind: str = ""
    unit: str = ""
    key: Layout | None = None
    value: Layout | None = None
    type_id: int = 0
    max_entries: int = 0


def read_map_specs(btf: Btf) -> dict[str, MapSpec]:
    """Return the maps declared in the section `.maps`, by name; see `Btf.map_specs`."""
    specs = {}
    for var_id, variable, _ in _variables(btf, ".maps"):
        definition = btf.resolve(variable.ref)
        if definition.kind != STRUCT:
            raise BtfError(f"map {variable.name} is not declared as a struct")
        members = {member.name: member.type_id for member in btf.members(definition)}
        tags = dict(tag[len(_TAG) :].partition(":")[::2] for tag in btf.tags.get(var_id, ()) if tag.startswith(_TAG))
        specs[variable.name] = MapSpec(
            variable.name,
            tags.get("kind", ""),
            tags.get("unit", ""),
            _side(btf, members, "key"),
            _side(btf, members, "value"),
            _number(btf, members.get("type")),
            _number(btf, members.get("max_entries")),
        )
    return specs


def read_variables(btf: Btf, section: str) -> list[tuple[str, int, Layout]]:
    """Return the variables of a data section by offset; see `Btf.variables`."""
    found = []
    symbols = btf.elf.symbols if btf.elf else {}
    for _, variable, offset in _variables(btf, section):
        # Before linking, BTF has the offsets of static variables only; the others are in the symbol table.
        symbol = symbols.get(variable.name)
        if btf.word(variable.at) != _STATIC and symbol and symbol.section == section:
            offset = symbol.value
        found.append((variable.name, offset, btf.layout(variable.ref)))
    return sorted(found, key=lambda item: item[1])


def _variables(btf: Btf, section: str) -> list[tuple[int, Type, int]]:
    """Return type id, VAR and offset of each variable in a data section."""
    found = []
    for section_id in btf.sections:
        data = btf.type(section_id)
        if data.name != section:
            continue
        for var_id, offset, _ in btf.section_variables(data):
            variable = btf.type(var_id)
            if variable.kind != VAR:
                raise BtfError(f"section {section} holds something that is no variable")
            found.append((var_id, variable, offset))
    return found


def _side(btf: Btf, members: dict[str, int], side: str) -> Layout | None:
    """Read `__type(key, ...)`, a pointer to the type, or `__uint(key_size, ...)`."""
    if side in members:
        pointer = btf.resolve(members[side])
        if pointer.kind != PTR:
            raise BtfError(f"a map's {side} is not declared as a pointer to its type")
        return btf.layout(pointer.ref)
    size_bytes = _number(btf, members.get(f"{side}_size"))
    return bytes_layout(size_bytes) if 0 < size_bytes < 1 << 30 else None


def _number(btf: Btf, type_id: int | None) -> int:
    """Read `__uint(name, n)`: a pointer to an array of n ints; 0 when it is not there."""
    if type_id is None:
        return 0
    pointer = btf.resolve(type_id)
    array = btf.resolve(pointer.ref) if pointer.kind == PTR else pointer
    if array.kind != ARRAY:
        raise BtfError("a number in a map's declaration is not a pointer to an array")
    return btf.array(array)[1]
