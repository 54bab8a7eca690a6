"""Map declarations that Rust has wrapped, unwrapped as libbpf takes them.

A static of Rust that others change is an `UnsafeCell`, so a `#[btf_map]` of aya's first years is a struct of one
member `__0`, a struct of one member `value`, and only that is the declaration. Here the map's variable in BTF gets the
declaration's type instead; all three begin at the same byte and have the same size.

Source: aya's `btf_maps`, before "make btf_maps libbpf-compatible" (pull request 1457).
"""

from __future__ import annotations

import struct

from ebpf_magic.data.btf import Btf
from ebpf_magic.data.elf import BtfError, Elf
from ebpf_magic.data.kinds import STRUCT

_WRAPPERS = frozenset({"__0", "value"})
_MAX_DEPTH = 8
_HEADER_BYTES = struct.Struct("<HBBI")  # magic, version, flags, hdr_len; then type_off
_REF_BYTES = 4  # a type's third word, just before its details


def unwrapped(raw: bytes) -> bytes:
    """Return the object with each wrapped map declaration laid open; one without any as it is.

    Parameters
    ----------
    raw : bytes
        An ELF64 little-endian object.

    Raises
    ------
    BtfError
        When it is damaged.
    """
    if b"\0__0\0" not in raw:  # nothing of Rust's: spare the reading of its types
        return raw
    section = Elf(raw).section(".BTF")
    if section is None:
        return raw
    btf = Btf.from_elf(raw)
    _, _, _, header = _HEADER_BYTES.unpack_from(raw, section.offset)
    types = section.offset + header + struct.unpack_from("<I", raw, section.offset + _HEADER_BYTES.size)[0]
    out = bytearray(raw)
    for section_id in btf.sections:
        data = btf.type(section_id)
        if data.name != ".maps":
            continue
        for var_id, _, _ in btf.section_variables(data):
            variable = btf.type(var_id)
            struct.pack_into("<I", out, types + 4 * variable.at - _REF_BYTES, _declaration(btf, variable.ref))
    return raw if out == raw else bytes(out)


def _declaration(btf: Btf, type_id: int) -> int:
    """Type id of what a map's wrappers hold; that of the map itself where it is not wrapped."""
    for _ in range(_MAX_DEPTH):
        found = btf.resolve(type_id)
        members = btf.members(found) if found.kind == STRUCT else []
        if len(members) != 1 or members[0].name not in _WRAPPERS:
            return type_id
        # A declaration of nothing but a `value` points to its type; a wrapper holds the next one itself.
        if btf.resolve(members[0].type_id).kind != STRUCT:
            return type_id
        type_id = members[0].type_id
    raise BtfError("a map's declaration is wrapped without an end")
