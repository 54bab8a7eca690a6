"""What an object says of its maps and variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ebpf_magic.data.elf import BtfError
from ebpf_magic.data.kinds import ARRAY, CONST, MODIFIERS, PTR, STRUCT, VAR, VOLATILE
from ebpf_magic.data.layout import MAX_FIELDS, Layout, bytes_layout

if TYPE_CHECKING:
    from ebpf_magic.data.btf import Btf, Type

_TAG = "ebpf_magic."
_SHOW = "ebpf_magic.show:"
_KCONFIG = ".kconfig"
_STATIC = 0  # BTF_VAR_STATIC
_MAX_CHAIN = 64


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
    inner : MapSpec, optional
        Of a map of maps: what its inner maps are declared to be.
    """

    name: str
    kind: str = ""
    unit: str = ""
    key: Layout | None = None
    value: Layout | None = None
    type_id: int = 0
    max_entries: int = 0
    inner: MapSpec | None = None

    @property
    def has_cgroups(self) -> bool:
        """Whether key or value hold cgroup ids, which are shown by their paths."""
        return any(side is not None and side.has_cgroups for side in (self.key, self.value))

    def with_cgroups(self, paths: Mapping[int, str]) -> MapSpec:
        """Return the same declaration with the cgroups' paths by their ids."""
        key, value = (side.with_cgroups(paths) if side else None for side in (self.key, self.value))
        return replace(self, key=key, value=value)


@dataclass(frozen=True)
class Variable:
    """A global variable as the object declares it.

    Attributes
    ----------
    name : str
        Its name.
    section : str
        The data section it lies in, ``.data``, ``.bss``, ``.rodata`` or one of its own.
    offset : int
        Where it begins there, in bytes.
    layout : Layout
        Its type.
    is_static : bool
        Whether only its own file knows it; libbpf lets a section of such alone be written through the kernel only.
    is_folded : bool
        Whether it is const and not volatile: then the compiler has put its value into the code.
    """

    name: str
    section: str
    offset: int
    layout: Layout
    is_static: bool
    is_folded: bool


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
            # The key of a histogram by key is a struct of ours; what the cell means by it is its first member.
            _side(btf, members, "key", {"key" if tags.get("kind") == "hist_by" else "": tags.get("key", "")}),
            _side(btf, members, "value", {"": tags.get("value", "")}),
            _number(btf, members.get("type")),
            _number(btf, members.get("max_entries")),
            _inner(btf, variable.name, members.get("values")),
        )
    return specs


def _inner(btf: Btf, outer: str, values: int | None) -> MapSpec | None:
    """Read `__array(values, struct {...})`, an array of pointers to the inner maps' declaration."""
    found = btf.resolve(values) if values is not None else None
    if found is None or found.kind != ARRAY:
        return None
    pointer = btf.resolve(btf.array(found)[0])
    definition = btf.resolve(pointer.ref) if pointer.kind == PTR else pointer
    if definition.kind != STRUCT:
        return None  # of a program array: functions
    members = {member.name: member.type_id for member in btf.members(definition)}
    return MapSpec(
        f"{outer}[]",
        key=_side(btf, members, "key", {}),
        value=_side(btf, members, "value", {}),
        type_id=_number(btf, members.get("type")),
        max_entries=_number(btf, members.get("max_entries")),
    )


def read_variables(btf: Btf, section: str) -> list[Variable]:
    """Return the variables of a data section by offset; see `Btf.variables`."""
    found = []
    symbols = btf.elf.symbols if btf.elf else {}
    for var_id, variable, offset in _variables(btf, section):
        # Before linking, BTF has the offsets of static variables only; the others are in the symbol table.
        is_static = btf.word(variable.at) == _STATIC
        symbol = symbols.get(variable.name)
        if not is_static and symbol and symbol.section == section:
            offset = symbol.value
        show = next((tag[len(_SHOW) :] for tag in btf.tags.get(var_id, ()) if tag.startswith(_SHOW)), "")
        layout = btf.layout(variable.ref, {"": show} if show else None, MAX_FIELDS)
        if layout is not None:
            is_folded = _is_folded(btf, variable.ref)
            found.append(Variable(variable.name, section, offset, layout, is_static, is_folded))
    if section == _KCONFIG:
        return _laid_out(found)
    return sorted(found, key=lambda item: item.offset)


def _laid_out(settings: list[Variable]) -> list[Variable]:
    """Give the kernel's settings the places that libbpf gives them, who makes the section: the object has none.

    Source: cmp_externs() and bpf_object__collect_externs() in libbpf.c, the same since there are any.
    """
    found, end = [], 0
    for variable in sorted(settings, key=lambda item: (-_alignment(item), item.layout.dtype.itemsize, item.name)):
        start = -(-end // _alignment(variable)) * _alignment(variable)
        found.append(replace(variable, offset=start))
        end = start + variable.layout.dtype.itemsize
    return found


def _alignment(setting: Variable) -> int:
    """Return how a setting is aligned: a number by its size, a text not at all."""
    return 1 if setting.layout.columns[0].kind == "char" else setting.layout.dtype.itemsize


def _is_folded(btf: Btf, type_id: int) -> bool:
    """Whether a type is const and not volatile; of an array its elements are."""
    seen = set()
    for _ in range(_MAX_CHAIN):
        found = btf.type(type_id)
        if found.kind not in MODIFIERS and found.kind != ARRAY:
            break
        seen.add(found.kind)
        type_id = btf.array(found)[0] if found.kind == ARRAY else found.ref
    return CONST in seen and VOLATILE not in seen


def read_pointers(btf: Btf, section: str) -> list[tuple[str, int]]:
    """Return the variables of a data section that are pointers; see `Btf.pointers`."""
    found = ((variable.name, btf.resolve(variable.ref)) for _, variable, _ in _variables(btf, section))
    return [(name, pointer.ref) for name, pointer in found if pointer.kind == PTR]


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


def _side(btf: Btf, members: dict[str, int], side: str, shows: Mapping[str, str]) -> Layout | None:
    """Read `__type(key, ...)`, a pointer to the type, or `__uint(key_size, ...)`."""
    if side in members:
        pointer = btf.resolve(members[side])
        if pointer.kind != PTR:
            raise BtfError(f"a map's {side} is not declared as a pointer to its type")
        return btf.layout(pointer.ref, {name: show for name, show in shows.items() if show})
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
