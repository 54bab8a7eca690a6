"""BTF, the kernel's type format, and `.BTF.ext`, which ties instructions to source lines.

A `Btf` knows where each type begins and nothing more; a type is decoded when it is asked for. So a cell's
object costs a millisecond, and the kernel's own BTF (150,000 types) a fraction of a second. Nothing in the
bytes is trusted: every offset is checked, every chain of references is bounded, and whatever is wrong is one
`BtfError`.

Source: Documentation/bpf/btf.rst of the kernel.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ebpf_magic.data.elf import BtfError, Elf, string
from ebpf_magic.data.kinds import (
    ARRAY,
    DATASEC,
    DECL_TAG,
    ENUM,
    ENUM64,
    FUNC_PROTO,
    INT,
    MODIFIERS,
    STRUCT,
    TYPEDEF,
    UNION,
    VAR,
)
from ebpf_magic.data.layout import MAX_ELEMENTS, Column, Layout, layout_of
from ebpf_magic.data.spec import MapSpec, Variable, read_map_specs, read_pointers, read_variables

__all__ = ["Btf", "BtfError", "Column", "Layout", "LineInfo", "MapSpec", "Member", "Type", "Variable"]

_MAGIC = 0xEB9F
_HEADER = struct.Struct("<HBBIIIII")
_EXT_HEADER = struct.Struct("<HBBIIIII")
# Words (4 bytes) that follow a type's three, by kind: a fixed number, and so many for each of its `vlen` elements.
_FIXED_WORDS = {INT: 1, ARRAY: 3, VAR: 1, DECL_TAG: 1}
_WORDS_EACH = {STRUCT: 3, UNION: 3, ENUM: 2, FUNC_PROTO: 2, DATASEC: 3, ENUM64: 3}
_MAX_CHAIN = 64
_WHOLE = 0xFFFFFFFF  # a declaration tag's component when it stands on no member
_SHOW = "ebpf_magic.show:"


class Type(NamedTuple):
    """One type as it stands in BTF; `ref` is its size or the type it refers to, `at` the word its details begin at."""

    kind: int
    name: str
    vlen: int
    flag: bool
    ref: int
    at: int


class Member(NamedTuple):
    """A member of a struct or union; `bits` is 0 unless it is a bit field."""

    name: str
    type_id: int
    offset_bits: int
    bits: int


class LineInfo(NamedTuple):
    """The source line an instruction came from; `insn` counts the instructions of its *section*."""

    insn: int
    file: str
    line: int
    column: int
    text: str


class Btf:
    """The types of an object, or of the kernel.

    Parameters
    ----------
    raw : bytes
        A `.BTF` section, or `/sys/kernel/btf/vmlinux`.
    ext : bytes
        The `.BTF.ext` section that belongs to it, if any.
    elf : Elf, optional
        The object it came from, for the offsets of its variables.
    base : Btf, optional
        The types that these go on from, as a kernel module's do from the kernel's: ids and strings count on.

    Raises
    ------
    BtfError
        When the bytes are not well-formed BTF (also by every method that meets the damage later).
    """

    def __init__(self, raw: bytes, ext: bytes = b"", elf: Elf | None = None, base: Btf | None = None) -> None:
        self.elf = elf
        self._ext = ext
        self._base = base
        self._first_id = len(base) if base else 1
        types, self._strings = _sections(raw)
        self._words = np.asarray(np.frombuffer(types, "<u4"), np.uint32).data
        self._starts, sections, tags = _index(self._words)
        # Words, ids and strings are counted on from those of the base.
        self._first_word: int = base._first_word + len(base._words) if base else 0
        self._first_string: int = base._first_string + len(base._strings) if base else 0
        self.sections = [self._first_id - 1 + number for number in sections]
        self._tag_ids = [self._first_id - 1 + number for number in tags]
        self._types = {0: Type(0, "void", 0, False, 0, 0)}
        self._map_specs: dict[str, MapSpec] | None = None
        self._variables: dict[str, list[Variable]] = {}
        self._layouts: dict[tuple[int, int], Layout | None] = {}
        self._names: dict[int, dict[str, int]] = {}

    @classmethod
    def from_elf(cls, elf: bytes) -> Btf:
        """Read the BTF of an ELF object."""
        parsed = Elf(elf)
        raw = parsed.data(".BTF")
        if raw is None:
            raise BtfError("the object has none (clang makes it with -g)")
        return cls(raw, parsed.data(".BTF.ext") or b"", parsed)

    def __len__(self) -> int:
        """Return the number of types, with those of the base; ids run from 1 to it less one, 0 is void."""
        return self._first_id - 1 + len(self._starts)

    def adds(self, type_id: int) -> bool:
        """Whether a type is one of those that go on from a base."""
        return self._base is not None and type_id >= self._first_id

    def string(self, offset: int) -> str:
        """Return the string at `offset` of the string section."""
        if self._base and offset < self._first_string:
            return self._base.string(offset)
        return string(self._strings, offset - self._first_string)

    def type(self, type_id: int) -> Type:
        """Return one type; id 0 is void, a type of kind 0."""
        found = self._types.get(type_id)
        if found is None:
            if type_id >= len(self):
                raise BtfError(f"there is no type {type_id}")
            if self._base and type_id < self._first_id:
                return self._base.type(type_id)
            at = self._starts[type_id - self._first_id + 1]
            name, info, ref = self._words[at : at + 3]
            at += self._first_word + 3
            found = Type((info >> 24) & 31, self.string(name), info & 0xFFFF, bool(info >> 31), ref, at)
            self._types[type_id] = found
        return found

    def resolve(self, type_id: int) -> Type:
        """Return the type behind typedefs, const, volatile, restrict and type tags."""
        return self.type(self.resolve_id(type_id))

    def resolve_id(self, type_id: int) -> int:
        """Return the id of the type behind typedefs, const, volatile, restrict and type tags."""
        for _ in range(_MAX_CHAIN):
            found = self.type(type_id)
            if found.kind not in MODIFIERS:
                return type_id
            type_id = found.ref
        raise BtfError(f"type {type_id} is a chain of references without an end")

    def members(self, of: Type) -> list[Member]:
        """Return the members of a struct or union."""
        words = self._details(of.at, 3 * of.vlen)
        return [
            Member(self.string(name), type_id, at & 0xFFFFFF if of.flag else at, at >> 24 if of.flag else 0)
            for name, type_id, at in zip(words[0::3], words[1::3], words[2::3], strict=True)
        ]

    def parameters(self, of: Type) -> list[tuple[str, int]]:
        """Return the parameters of a function's type: name, which may be empty, and type id; ("", 0) is ``...``."""
        words = self._details(of.at, 2 * of.vlen)
        return [(self.string(name), type_id) for name, type_id in zip(words[0::2], words[1::2], strict=True)]

    def names(self, kind: int) -> dict[str, int]:
        """Return the types of a kind by name, without those of the base; of several of one name the first."""
        if kind not in self._names:
            starts = np.asarray(self._starts[1:])
            words = np.frombuffer(self._words, np.uint32)
            ids = np.flatnonzero((words[starts + 1] >> 24) & 31 == kind)
            found: dict[str, int] = {}
            for type_id, name in zip((ids + self._first_id).tolist(), words[starts[ids]].tolist(), strict=True):
                found.setdefault(self.string(name), type_id)
            found.pop("", None)
            self._names[kind] = found
        return self._names[kind]

    def array(self, of: Type) -> tuple[int, int]:
        """Return an array's element type id and its number of elements."""
        return self.word(of.at), self.word(of.at + 2)

    def integer(self, of: Type) -> tuple[int, int, int]:
        """Return an integer's encoding (1 signed, 2 char, 4 bool), the bit it begins at (in old BTF), and its width."""
        word = self.word(of.at)
        return (word >> 24) & 15, (word >> 16) & 0xFF, word & 0xFF

    def enumerators(self, of: Type) -> dict[int, str]:
        """Return the names of an enum or enum64 by value; of two names for one value the first."""
        names: dict[int, str] = {}
        for name, value in self.enumerator_list(of):
            names.setdefault(value, name)
        if len(set(names.values())) != len(names):
            raise BtfError(f"enum {of.name} uses a name twice")
        return names

    def enumerator_list(self, of: Type) -> list[tuple[str, int]]:
        """Return the names of an enum or enum64 with their values, in their order."""
        step = 3 if of.kind == ENUM64 else 2
        words = self._details(of.at, step * of.vlen)
        found = []
        for i in range(0, len(words), step):
            value = words[i + 1] | (words[i + 2] << 32 if step == 3 else 0)
            if of.flag and value >> (32 * (step - 1) - 1):
                value -= 1 << (32 * (step - 1))
            found.append((self.string(words[i]), value))
        return found

    def word(self, at: int) -> int:
        """Return one word of a type's details."""
        return self._details(at, 1)[0]

    def _details(self, at: int, count: int) -> list[int]:
        """Return words of a type's details."""
        if self._base and at < self._first_word:
            return self._base._details(at, count)
        at -= self._first_word
        return self._words[at : at + count].tolist()

    def section_variables(self, section: Type) -> list[tuple[int, int, int]]:
        """Return the variables of a data section: type id, offset and size in bytes as BTF has them."""
        words = self._details(section.at, 3 * section.vlen)
        return list(zip(words[0::3], words[1::3], words[2::3], strict=True))

    @cached_property
    def tags(self) -> dict[int, list[str]]:
        """Declaration tags that stand on a whole declaration, by its type id."""
        tags: dict[int, list[str]] = {}
        for type_id in self._tag_ids:
            tag = self.type(type_id)
            if self.word(tag.at) == _WHOLE:
                tags.setdefault(tag.ref, []).append(tag.name)
        return tags

    @cached_property
    def member_shows(self) -> dict[tuple[int, int], str]:
        """The forms that tags on members ask for, by the `at` of the struct or union and the number of the member."""
        shows = {}
        for type_id in self._tag_ids:
            tag = self.type(type_id)
            if self.word(tag.at) != _WHOLE and tag.name.startswith(_SHOW):
                shows[self.type(tag.ref).at, self.word(tag.at)] = tag.name[len(_SHOW) :]
        return shows

    def typedefs(self, type_id: int) -> tuple[list[str], str]:
        """Return the typedefs a type goes through, by name, and the form that a tag on one of them asks for."""
        names, show = [], ""
        for _ in range(_MAX_CHAIN):
            found = self.type(type_id)
            if found.kind not in MODIFIERS:
                break
            if found.kind == TYPEDEF:
                names.append(found.name)
                tags = (tag[len(_SHOW) :] for tag in self.tags.get(type_id, ()) if tag.startswith(_SHOW))
                show = show or next(tags, "")
            type_id = found.ref
        return names, show

    def layout(
        self, type_id: int, shows: Mapping[str, str] | None = None, max_elements: int = MAX_ELEMENTS
    ) -> Layout | None:
        """Return how a value of that type lies in memory, and the columns it becomes; see `layout_of`."""
        if shows:
            return layout_of(self, type_id, shows, max_elements)
        key = type_id, max_elements
        if key not in self._layouts:
            self._layouts[key] = layout_of(self, type_id, None, max_elements)
        return self._layouts[key]

    def map_specs(self) -> dict[str, MapSpec]:
        """Return the maps the object declares in `.maps`, by name; read once."""
        if self._map_specs is None:
            self._map_specs = read_map_specs(self)
        return self._map_specs

    def variables(self, section: str) -> list[Variable]:
        """Return the variables of a data section such as `.data`, in the order in which they lie there; read once."""
        if section not in self._variables:
            self._variables[section] = read_variables(self, section)
        return self._variables[section]

    @property
    def data_sections(self) -> list[str]:
        """The names of the sections of variables, such as `.data` and `.bss`, also of those that are maps."""
        return [self.type(section_id).name for section_id in self.sections]

    def pointers(self, section: str) -> list[tuple[str, int]]:
        """Return the variables of a data section that are pointers: name, and the type id they point to."""
        return read_pointers(self, section)

    def line_info(self, section: str) -> list[LineInfo]:
        """Return the source lines of a program section's instructions, in their order; empty when there are none."""
        if not self._ext:
            return []
        found: list[LineInfo] = []
        for name_at, size, start, count in _line_blocks(self._ext):
            if self.string(name_at) != section:
                continue
            for at in range(start, start + count * size, size):
                insn, file, text, where = struct.unpack_from("<IIII", self._ext, at)
                found.append(LineInfo(insn // 8, self.string(file), where >> 10, where & 1023, self.string(text)))
        return found


def _sections(raw: bytes) -> tuple[bytes, bytes]:
    """Cut BTF into its types and its strings."""
    if len(raw) < _HEADER.size:
        raise BtfError("it is cut short")
    magic, version, _, header, type_at, type_size, string_at, string_size = _HEADER.unpack_from(raw)
    if magic != _MAGIC or version != 1:
        raise BtfError(f"it begins with {raw[:3].hex()}, not with the mark of BTF version 1")
    types = raw[header + type_at : header + type_at + type_size]
    strings = raw[header + string_at : header + string_at + string_size]
    if len(types) != type_size or len(strings) != string_size or type_size % 4:
        raise BtfError("it is cut short")
    return types, strings


def words_of(kind: int, vlen: int) -> int:
    """Return how many words (4 bytes) a type of that kind takes, with `vlen` elements; BtfError for an unknown kind."""
    if not INT <= kind <= ENUM64:
        raise BtfError(f"a type is of the unknown kind {kind}")
    return 3 + _FIXED_WORDS.get(kind, 0) + _WORDS_EACH.get(kind, 0) * vlen


def _index(words: memoryview) -> tuple[list[int], list[int], list[int]]:
    """Find where each type begins; also the ids of the data sections and of the declaration tags."""
    fixed = [3 + _FIXED_WORDS.get(kind, 0) for kind in range(32)]
    each = [_WORDS_EACH.get(kind, 0) for kind in range(32)]
    starts, sections, tags = [0], [], []
    at, end = 0, len(words)
    while at + 3 <= end:
        info = words[at + 1]
        kind = (info >> 24) & 31
        if kind == DATASEC:
            sections.append(len(starts))
        elif kind == DECL_TAG:
            tags.append(len(starts))
        elif not INT <= kind <= ENUM64:
            raise BtfError(f"type {len(starts)} is of the unknown kind {kind}")
        starts.append(at)
        at += fixed[kind] + each[kind] * (info & 0xFFFF)
    if at != end:
        raise BtfError("its last type is cut short")
    return starts, sections, tags


def _line_blocks(ext: bytes) -> list[tuple[int, int, int, int]]:
    """Find the blocks of line records: section name, bytes of a record, where the first lies, how many."""
    if len(ext) < _EXT_HEADER.size:
        raise BtfError(".BTF.ext is cut short")
    magic, version, _, header, _, _, line_at, line_size = _EXT_HEADER.unpack_from(ext)
    if magic != _MAGIC or version != 1:
        raise BtfError(".BTF.ext does not begin with the mark of BTF version 1")
    at = header + line_at
    end = at + line_size
    if end > len(ext) or 0 < line_size < 4:
        raise BtfError(".BTF.ext is cut short")
    if not line_size:
        return []
    (size,) = struct.unpack_from("<I", ext, at)
    if size < 16:
        raise BtfError(f"a line record of {size} bytes is too short")
    at += 4
    blocks = []
    while at + 8 <= end:
        name, count = struct.unpack_from("<II", ext, at)
        blocks.append((name, size, at + 8, count))
        at += 8 + count * size
    if at != end:
        raise BtfError("the line records are cut short")
    return blocks
