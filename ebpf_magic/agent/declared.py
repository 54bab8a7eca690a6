"""What an opened object declares: its programs, each with its type, and its maps."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from . import kinds, map_kinds, maps
from .attach import usdt
from .libbpf import Library

OFF = "off"  # the target of a program that is to be left out
_HIDDEN_MAP = re.compile(r"\.(?:bss|data|rodata|kconfig)\b[\w.]*$")


class Program(NamedTuple):
    """A program of an opened object; `section` is what its target makes of it, where one was given for its kind."""

    pointer: int
    name: str
    section: str
    type: int
    attach_type: int
    type_name: str
    kind: str  # "" when not offered
    loads: bool = True  # not if its section begins with a question mark and nobody asked for it, nor where that is OFF

    @property
    def label(self) -> str:
        """The program and its section, as error texts name it."""
        return f'program {self.name}, SEC("{self.section}")'

    def target(self, given: str | None) -> str:
        """Where it goes: to the target given, which may begin with the kind, else to what its section names."""
        if given is None:
            return self.section.partition("/")[2]
        return given[len(self.kind) + 1 :] if given.startswith(f"{self.kind}:") else given


class MapSpec(NamedTuple):
    """A map of an opened object."""

    pointer: int
    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    internal: bool
    pinned: bool
    memory_bytes: int
    extra: int

    @property
    def type_name(self) -> str:
        """The type in libbpf's words."""
        return maps.TYPE_NAMES.get(self.type, str(self.type))


def programs(
    library: Library, pointer: int, targets: Mapping[str, str], in_tables: Collection[str] = ()
) -> list[Program]:
    """List the programs of an opened object; one of a section that this libbpf does not know is given its type.

    Parameters
    ----------
    targets : mapping
        What a person said of where programs go, by their names.
    in_tables : collection of str
        The functions that tables of struct_ops name: libbpf 1.1 crashes over one that it is not to load.
    """
    result = []
    item = library.bpf_object__next_program(pointer, None)
    while item:
        section = library.bpf_program__section_name(item).decode(errors="replace")
        if section == ".text":  # a function that is the only one of its object, which libbpf takes for a program
            library.bpf_program__set_autoload(item, False)
        else:
            name = library.bpf_program__name(item).decode(errors="replace")
            given = targets.get(name)
            if given is not None or name in in_tables:
                library.bpf_program__set_autoload(item, given != OFF)
            result.append(_program(library, item, name, section, given if given != OFF else None))
        item = library.bpf_object__next_program(pointer, item)
    return result


def _program(library: Library, pointer: int, name: str, section: str, given: str | None) -> Program:
    """Describe a program, given what a person said of its target."""
    number = library.bpf_program__type(pointer) or _give_type(library, pointer, section)
    named = (given or "").partition(":")[0] if not number else ""
    if named in kinds.NAMED:
        number, attach_type = kinds.NAMED[named]
        library.bpf_program__set_type(pointer, number)
        library.bpf_program__set_expected_attach_type(pointer, attach_type)
    attach_type = library.bpf_program__expected_attach_type(pointer)
    type_name = library.libbpf_bpf_prog_type_str(number)
    kind = named if number and named else kinds.attach_kind(number, attach_type, section) or ""
    loads = bool(library.bpf_program__autoload(pointer))
    program = Program(
        pointer, name, section, number, attach_type, type_name.decode() if type_name else str(number), kind, loads
    )
    if given is not None and (kind in kinds.BOUND or (kinds.takes_target(kind) and "/" not in section)):
        return program._replace(section=f"{section.partition('/')[0]}/{program.target(given)}")
    return program


def _give_type(library: Library, pointer: int, section: str) -> int:
    """Type of a program whose section only newer versions of libbpf know; 0 when nobody does."""
    known = kinds.TYPED.get(section) or kinds.TYPED.get(section.partition("/")[0])
    if known is None:
        return 0
    number, attach_type, flags = known
    library.bpf_program__set_type(pointer, number)
    library.bpf_program__set_expected_attach_type(pointer, attach_type)
    library.bpf_program__set_flags(pointer, library.bpf_program__flags(pointer) | flags)
    return number


def map_specs(library: Library, pointer: int, possible_cpus: int) -> list[MapSpec]:
    """List the maps of an opened object, with the kernel memory that each may come to take."""
    result = []
    item = library.bpf_object__next_map(pointer, None)
    while item:
        name = library.bpf_map__name(item).decode(errors="replace")
        internal = library.bpf_map__is_internal(item) or name in usdt.MAPS
        number = library.bpf_map__type(item)
        key_size, value_size = library.bpf_map__key_size(item), library.bpf_map__value_size(item)
        max_entries = library.bpf_map__max_entries(item)
        memory = map_kinds.memory_bytes(
            maps.TYPE_NAMES.get(number, ""), key_size, value_size, max_entries, possible_cpus
        )
        result.append(
            MapSpec(
                item,
                _map_name(name, internal),
                number,
                key_size,
                value_size,
                max_entries,
                library.bpf_map__map_flags(item),
                internal,
                library.bpf_map__pin_path(item) is not None,
                memory,
                library.bpf_map__map_extra(item),
            )
        )
        item = library.bpf_object__next_map(pointer, item)
    return result


def _map_name(name: str, internal: bool) -> str:
    """Name of the section for libbpf's own maps, which it calls ``object.bss``."""
    match = _HIDDEN_MAP.search(name) if internal else None
    return match[0] if match else name
