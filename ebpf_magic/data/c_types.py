"""BTF types as C: declarations, definitions, prototypes.

Names out of BTF are held to the letters of C, so that what is made of a stranger's types is C and nothing else.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ebpf_magic.data import kinds
from ebpf_magic.data.elf import BtfError

if TYPE_CHECKING:
    from ebpf_magic.data.btf import Btf, Type

_MAX_DEPTH = 32
_INDENT = "\t"
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9_ ]")
_QUALIFIERS = {kinds.CONST: "const", kinds.VOLATILE: "volatile", kinds.RESTRICT: "restrict"}
_TAGGED = {kinds.STRUCT: "struct", kinds.UNION: "union", kinds.ENUM: "enum", kinds.ENUM64: "enum"}


def declaration(btf: Btf, type_id: int, name: str = "", indent: str = "", depth: int = 0) -> str:
    """Write a type with the name it is given to: ``int (*show)(struct seq_file *, void *)``."""
    if depth > _MAX_DEPTH:
        raise BtfError(f"its types nest deeper than {_MAX_DEPTH}")
    found = btf.type(type_id)
    if found.kind == kinds.PTR:
        target = _behind_tags(btf, found.ref)
        inner = f"(*{name})" if btf.type(target).kind in (kinds.ARRAY, kinds.FUNC_PROTO) else f"*{name}"
        return declaration(btf, target, inner, indent, depth + 1)
    if found.kind in _QUALIFIERS:
        word, target = _QUALIFIERS[found.kind], _behind_tags(btf, found.ref)
        if btf.type(target).kind == kinds.PTR:
            return declaration(btf, target, f" {word} {name}".rstrip(), indent, depth + 1)
        text = declaration(btf, target, name, indent, depth + 1)
        # A const array may have const elements, which in C is one word.
        return text if text.startswith(f"{word} ") else f"{word} {text}"
    if found.kind == kinds.TYPE_TAG:
        return declaration(btf, found.ref, name, indent, depth + 1)
    if found.kind == kinds.ARRAY:
        element, length = btf.array(found)
        return declaration(btf, element, f"{name}[{length}]", indent, depth + 1)
    if found.kind == kinds.FUNC_PROTO:
        return prototype(btf, found, name, depth + 1)
    return f"{_base(btf, found, indent, depth)} {name}".rstrip()


def prototype(btf: Btf, proto: Type, name: str, depth: int = 0) -> str:
    """Write a function's type with its name and those of its parameters."""
    parts = [
        "..." if not type_id and not parameter else declaration(btf, type_id, parameter, depth=depth + 1)
        for parameter, type_id in btf.parameters(proto)
    ]
    return declaration(btf, proto.ref, f"{name}({', '.join(parts) or 'void'})", depth=depth + 1)


def definition(btf: Btf, type_id: int) -> str:
    """Write what stands behind a struct, union, enum or typedef."""
    found = btf.type(type_id)
    if found.kind == kinds.TYPEDEF:
        return f"typedef {declaration(btf, found.ref, _named(found.name))};"
    return f"{_body(btf, found, '', 0)};"


def _base(btf: Btf, found: Type, indent: str, depth: int) -> str:
    if found.kind in _TAGGED:
        return f"{_TAGGED[found.kind]} {_named(found.name)}" if found.name else _body(btf, found, indent, depth)
    if found.kind == kinds.FWD:
        return f"{'union' if found.flag else 'struct'} {_named(found.name)}"
    return _named(found.name)


def _body(btf: Btf, found: Type, indent: str, depth: int) -> str:
    head = f"{_TAGGED[found.kind]} {_named(found.name)}".rstrip()
    deeper = indent + _INDENT
    if found.kind in (kinds.ENUM, kinds.ENUM64):
        suffix = ("LL" if found.flag else "ULL") if found.kind == kinds.ENUM64 else ""
        lines = [f"{deeper}{_named(name)} = {value}{suffix}," for name, value in btf.enumerator_list(found)]
    else:
        lines = []
        for member in btf.members(found):
            bits = f" : {member.bits}" if member.bits else ""
            text = declaration(btf, member.type_id, _named(member.name), deeper, depth + 1)
            lines.append(f"{deeper}{text}{bits};")
    return "\n".join([f"{head} {{", *lines, f"{indent}}}"])


def _behind_tags(btf: Btf, type_id: int) -> int:
    """Pass over type tags (``__user``, ``__rcu``), of which C here knows nothing."""
    for _ in range(_MAX_DEPTH):
        found = btf.type(type_id)
        if found.kind != kinds.TYPE_TAG:
            return type_id
        type_id = found.ref
    raise BtfError(f"type {type_id} is a chain of references without an end")


def _named(name: str) -> str:
    return _NOT_A_NAME.sub("_", name)
