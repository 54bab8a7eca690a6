"""BTF types as C: declarations, definitions, prototypes.

Names out of BTF are held to the letters of C, so that what is made of a stranger's types is C and nothing else; and
types that go round in circles, or that would make a text without an end, are an error.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ebpf_magic.data import kinds
from ebpf_magic.data.elf import BtfError

if TYPE_CHECKING:
    from ebpf_magic.data.btf import Btf, Type

_MAX_DEPTH = 32
_MAX_TYPES = 1 << 16
_INDENT = "\t"
_NOT_A_NAME = re.compile(r"\W", re.ASCII)
_NOT_A_BASE = re.compile(r"[^\w ]", re.ASCII)
_QUALIFIERS = {kinds.CONST: "const", kinds.VOLATILE: "volatile", kinds.RESTRICT: "restrict"}
_TAGGED = {kinds.STRUCT: "struct", kinds.UNION: "union", kinds.ENUM: "enum", kinds.ENUM64: "enum"}


def declaration(btf: Btf, type_id: int, name: str = "") -> str:
    """Write a type with the name it is given to: ``int (*show)(struct seq_file *, void *)``."""
    return _Writer(btf).declaration(type_id, plain_name(name), "", 0)


def prototype(btf: Btf, proto: Type, name: str) -> str:
    """Write a function's type with its name and those of its parameters."""
    return _Writer(btf).prototype(proto, plain_name(name), "", 0)


def definition(btf: Btf, type_id: int) -> str:
    """Write what stands behind a struct, union, enum or typedef."""
    found = btf.type(type_id)
    if found.kind == kinds.TYPEDEF:
        return f"typedef {declaration(btf, found.ref, found.name)};"
    return f"{_Writer(btf).body(found, '', 0)};"


def plain_name(name: str) -> str:
    """Make a name of C of what should be one."""
    return _NOT_A_NAME.sub("_", name)


class _Writer:
    """Writes one text, and counts the types in it."""

    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self._types = 0

    def declaration(self, type_id: int, name: str, indent: str, depth: int) -> str:
        self._types += 1
        if depth > _MAX_DEPTH or self._types > _MAX_TYPES:
            raise BtfError(f"its types nest deeper than {_MAX_DEPTH}, or are more than {_MAX_TYPES:,}")
        found = self._btf.type(type_id)
        if found.kind == kinds.PTR:
            target = self._behind_tags(found.ref)
            is_group = self._btf.type(target).kind in (kinds.ARRAY, kinds.FUNC_PROTO)
            return self.declaration(target, f"(*{name})" if is_group else f"*{name}", indent, depth + 1)
        if found.kind in _QUALIFIERS:
            return self._qualified(_QUALIFIERS[found.kind], found, name, indent, depth)
        if found.kind == kinds.TYPE_TAG:
            return self.declaration(found.ref, name, indent, depth + 1)
        if found.kind == kinds.ARRAY:
            element, length = self._btf.array(found)
            return self.declaration(element, f"{name}[{length}]", indent, depth + 1)
        if found.kind == kinds.FUNC_PROTO:
            return self.prototype(found, name, indent, depth + 1)
        return f"{self._base(found, indent, depth)} {name}".rstrip()

    def prototype(self, proto: Type, name: str, indent: str, depth: int) -> str:
        parts = [
            "..."
            if not type_id and not parameter
            else self.declaration(type_id, plain_name(parameter), indent, depth + 1)
            for parameter, type_id in self._btf.parameters(proto)
        ]
        return self.declaration(proto.ref, f"{name}({', '.join(parts) or 'void'})", indent, depth + 1)

    def body(self, found: Type, indent: str, depth: int) -> str:
        head = f"{_TAGGED[found.kind]} {plain_name(found.name)}".rstrip()
        deeper = indent + _INDENT
        if found.kind in (kinds.ENUM, kinds.ENUM64):
            suffix = ("LL" if found.flag else "ULL") if found.kind == kinds.ENUM64 else ""
            values = self._btf.enumerator_list(found)
            lines = [f"{deeper}{plain_name(name)} = {value}{suffix}," for name, value in values]
        else:
            lines = []
            for member in self._btf.members(found):
                bits = f" : {member.bits}" if member.bits else ""
                text = self.declaration(member.type_id, plain_name(member.name), deeper, depth + 1)
                lines.append(f"{deeper}{text}{bits};")
        return "\n".join([f"{head} {{", *lines, f"{indent}}}"])

    def _qualified(self, word: str, found: Type, name: str, indent: str, depth: int) -> str:
        target = self._behind_tags(found.ref)
        if self._btf.type(target).kind == kinds.PTR:
            return self.declaration(target, f" {word} {name}".rstrip(), indent, depth + 1)
        text = self.declaration(target, name, indent, depth + 1)
        # A const array may have const elements, which in C is one word.
        return text if text.startswith(f"{word} ") else f"{word} {text}"

    def _base(self, found: Type, indent: str, depth: int) -> str:
        if found.kind in _TAGGED:
            has_name = bool(found.name)
            return f"{_TAGGED[found.kind]} {plain_name(found.name)}" if has_name else self.body(found, indent, depth)
        if found.kind == kinds.FWD:
            return f"{'union' if found.flag else 'struct'} {plain_name(found.name)}"
        return _NOT_A_BASE.sub("_", found.name)

    def _behind_tags(self, type_id: int) -> int:
        """Pass over type tags (``__user``, ``__rcu``), of which C here knows nothing."""
        for _ in range(_MAX_DEPTH):
            found = self._btf.type(type_id)
            if found.kind != kinds.TYPE_TAG:
                return type_id
            type_id = found.ref
        raise BtfError(f"type {type_id} is a chain of references without an end")
