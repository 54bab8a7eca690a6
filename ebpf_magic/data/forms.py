"""Forms in which people read what lies in memory as bytes or as a number: addresses, device numbers, cgroups.

A declaration asks for one by a tag (``AS(ipv4)`` of ebpf_magic.h) or by the name of its type (``struct in_addr``). Text
is made once for each distinct value, and is taken back as it is shown. What has a form names something: a sum or a
difference of two such numbers says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any, NamedTuple

Names = Mapping[int, str]


class Form(NamedTuple):
    """How values of a form lie in memory, and how they become text and come back.

    Attributes
    ----------
    sizes : tuple of int
        The sizes in bytes a value may have.
    order : str
        "bytes" for what is no number, else the byte order of the number as NumPy has it: "<" or ">".
    texts : callable, optional
        Values (integers or bytes) and names to texts; without it a number is shown as a number.
    parse : callable, optional
        What is shown, or a number, and names to the value; raises ValueError with the reason.
    """

    sizes: tuple[int, ...]
    order: str = "<"
    texts: Callable[[Sequence[Any], Names], list[str]] | None = None
    parse: Callable[[Any, Names], Any] | None = None


def _ipv4_texts(values: Sequence[bytes], names: Names) -> list[str]:
    return [f"{a}.{b}.{c}.{d}" for a, b, c, d in values]


def _ipv6_texts(values: Sequence[bytes], names: Names) -> list[str]:
    found = []
    for value in values:
        address = IPv6Address(value)
        # An IPv4 peer of an IPv6 socket: nobody reads its address in hexadecimal.
        found.append(f"::ffff:{address.ipv4_mapped}" if address.ipv4_mapped else str(address))
    return found


def _mac_texts(values: Sequence[bytes], names: Names) -> list[str]:
    return [value.hex(":") for value in values]


def _hex_texts(values: Sequence[int], names: Names) -> list[str]:
    return [f"{value:#x}" for value in values]


def _device_texts(values: Sequence[int], names: Names) -> list[str]:
    # The kernel's own dev_t, MINORBITS is 20; what stat(2) gives is another number.
    return [f"{value >> 20}:{value & 0xFFFFF}" for value in values]


def _cgroup_texts(values: Sequence[int], names: Names) -> list[str]:
    return [names.get(value) or str(value) for value in values]


def _address(kind: type[IPv4Address] | type[IPv6Address], value: Any) -> bytes:
    if isinstance(value, int):
        raise ValueError(f"{value!r} is not an address: write it as text")
    try:
        return kind(str(value)).packed
    except ValueError:
        raise ValueError(f"{str(value)!r} is not an {'IPv4' if kind is IPv4Address else 'IPv6'} address") from None


def _mac(value: Any, names: Names) -> bytes:
    if not re.fullmatch(r"[0-9a-fA-F]{2}(?:([:-])[0-9a-fA-F]{2})(?:\1[0-9a-fA-F]{2}){4}", str(value)):
        raise ValueError(f"{str(value)!r} is not a MAC address such as 02:00:00:00:00:01")
    return bytes.fromhex(re.sub("[:-]", "", str(value)))


def _number(value: Any, what: str) -> int:
    """Take a number, or the text of one."""
    if hasattr(value, "__index__"):
        return int(value)
    try:
        return int(str(value), 0)
    except ValueError:
        raise ValueError(f"{value!r} is not {what}") from None


def _device(value: Any, names: Names) -> int:
    found = re.fullmatch(r"(\d+):(\d+)", str(value))
    if not found:
        return _number(value, "a device number such as 8:1")
    major, minor = int(found[1]), int(found[2])
    if minor >> 20:
        raise ValueError(f"{value!r} has a minor number above {0xFFFFF}")
    return major << 20 | minor


def _cgroup(value: Any, names: Names) -> int:
    if isinstance(value, str) and value.startswith("/"):
        found = next((number for number, path in names.items() if path == value), None)
        if found is None:
            raise ValueError(f"there is no cgroup {value}")
        return found
    return _number(value, "a cgroup's path or id")


FORMS: dict[str, Form] = {
    "ipv4": Form((4,), "bytes", _ipv4_texts, lambda value, names: _address(IPv4Address, value)),
    "ipv6": Form((16,), "bytes", _ipv6_texts, lambda value, names: _address(IPv6Address, value)),
    "mac": Form((6,), "bytes", _mac_texts, _mac),
    "hex": Form((1, 2, 4, 8), "<", _hex_texts, lambda value, names: _number(value, "a number such as 0x1f")),
    "dev": Form((4, 8), "<", _device_texts, _device),
    "cgroup": Form((8,), "<", _cgroup_texts, _cgroup),
    "inode": Form((4, 8)),
    "port": Form((2,), ">"),
    "be": Form((2, 4, 8), ">"),
}
"""By the word a tag uses: ``btf_decl_tag("ebpf_magic.show:ipv4")``."""

_BY_TYPEDEF = {
    "__be16": "be",
    "__be32": "be",
    "__be64": "be",
    "dev_t": "dev",
    "__kernel_dev_t": "dev",
    "ino_t": "inode",
}
_BY_STRUCT = {"in_addr": "ipv4", "in6_addr": "ipv6"}
_MAC_MEMBERS = frozenset(("h_source", "h_dest"))  # of struct ethhdr, and of who copies them


def of_names(typedefs: Sequence[str], type_name: str, member: str, size_bytes: int) -> str:
    """Return the form that names alone make certain; "" when they do not.

    Parameters
    ----------
    typedefs : sequence of str
        The names the declaration's type goes through.
    type_name : str
        The name of what it comes to.
    member : str
        The name of the member.
    size_bytes : int
        Its size.
    """
    form = next((_BY_TYPEDEF[name] for name in typedefs if name in _BY_TYPEDEF), "") or _BY_STRUCT.get(type_name, "")
    if member in _MAC_MEMBERS and size_bytes == 6:
        form = "mac"
    # Elsewhere a __be32 may be a sequence number or a flow label.
    if "__be32" in typedefs and member.endswith("addr"):
        form = "ipv4"
    if form == "dev" and size_bytes != 4:  # the C library's dev_t, in which the parts lie elsewhere
        form = ""
    return form if form and size_bytes in FORMS[form].sizes else ""
