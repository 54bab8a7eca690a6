"""Keys of an LPM trie as prefixes, as people write them: 10.0.0.0/8, 2001:db8::/32."""

from __future__ import annotations

import ipaddress
import socket
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ebpf_magic.errors import UsageError

_FAMILIES = {4: (socket.AF_INET, 32), 16: (socket.AF_INET6, 128)}


def are_addresses(key_size: int) -> bool:
    """Whether a key of that size is an address: a u32 of the prefix's length in bits, then 4 or 16 bytes."""
    return key_size - 4 in _FAMILIES


def texts(keys: Any, count: int, key_size: int) -> pd.Index[Any]:
    """Return keys as texts; the whole work is done by functions in C, one call for each key."""
    rows = np.frombuffer(keys, [("bits", "<u4"), ("data", f"V{key_size - 4}")], count)
    family, most = _FAMILIES[key_size - 4]
    addresses = np.array(list(map(socket.inet_ntop, repeat(family), rows["data"].tolist())), object)
    lengths = np.array([f"/{bits}" for bits in range(most + 1)], object)
    found: pd.Index[Any] = pd.Index(addresses + lengths[np.minimum(rows["bits"], most)], dtype="str", name="prefix")
    return found


def packed(what: str, values: Any, key_size: int) -> npt.NDArray[Any]:
    """Return the keys that texts stand for, as bytes in an array of objects; raises UsageError for one that is wrong.

    An address without a length is the address alone; bits behind the length must be 0.
    """
    _, most = _FAMILIES[key_size - 4]
    codes, distinct = pd.factorize(np.asarray(values, object))
    raw = np.empty(len(distinct), object)
    for number, text in enumerate(distinct):
        try:
            network = ipaddress.ip_network(text)
        except ValueError as error:
            raise UsageError(what, f"prefix {text!r}: {error}", "Such as 10.0.0.0/8 or 2001:db8::/32.") from None
        if network.max_prefixlen != most:
            raise UsageError(what, f"prefix {text!r}: the map's keys have addresses of {most} bits")
        raw[number] = network.prefixlen.to_bytes(4, "little") + network.network_address.packed
    return raw[codes] if len(distinct) else raw
