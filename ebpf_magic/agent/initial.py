"""What an object's global variables begin with: written between opening and loading."""

from __future__ import annotations

import ctypes as C
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .fault import Fault
from .libbpf import Library

if TYPE_CHECKING:
    from .declared import MapSpec


def set_values(library: Library, specs: Sequence[MapSpec], values: Mapping[str, str]) -> None:
    """Overwrite bytes of data sections in libbpf's memory; `values` are hexadecimal, by ``SECTION+OFFSET``."""
    by_name = {spec.name: spec for spec in specs if spec.internal}
    for place, text in values.items():
        section, _, offset = place.rpartition("+")
        spec = by_name.get(section)
        size = C.c_size_t()
        address = library.bpf_map__initial_value(spec.pointer, C.byref(size)) if spec else None
        try:
            start, data = int(offset), bytes.fromhex(text)
        except ValueError as error:
            raise Fault("usage", f"set a variable at {place}", str(error)) from None
        if not address or not 0 <= start <= size.value - len(data):
            raise Fault("usage", f"set a variable at {place}", "the object has no such bytes")
        C.memmove(address + start, data, len(data))
