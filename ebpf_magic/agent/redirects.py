"""Device and CPU maps: where packets are sent on to, and the program that each entry may have for them."""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import maps
from .fault import Fault, from_errno

if TYPE_CHECKING:
    from .objects import LoadedMap
    from .sessions import Session

# The kind of program that their entries take.
KINDS = {"devmap": "xdp_devmap", "devmap_hash": "xdp_devmap", "cpumap": "xdp_cpumap"}
_VALUE = struct.Struct("=Ii")  # struct bpf_devmap_val, bpf_cpumap_val: the interface or the queue's size, bpf_prog.fd


def fill(session: Session, item: LoadedMap, payload: memoryview, names: Sequence[str]) -> None:
    """Write entries, keys and then values, with the session's programs of those names; raises `Fault`.

    An empty name is no program. Nothing is written when one of the programs cannot be in such a map.
    """
    what = f"update map {item.name}"
    kind, info, count = KINDS.get(item.info.type_name), item.info, len(names)
    if kind is None or info.value_size < _VALUE.size:
        raise Fault("usage", what, f"the values of this {info.type_name} have no room for a program")
    if session.state == "detached":
        raise Fault("gone", what, "the session's programs are out of the kernel")
    keys, values = payload[: count * info.key_size], bytearray(payload[count * info.key_size :])
    if len(values) != count * info.value_size:
        raise Fault("usage", what, f"{count} entries have {count * info.value_size} bytes of values, not {len(values)}")
    for number, name in enumerate(names):
        if name:
            program = session.program(name)
            if program.kind != kind:
                section = kind.replace("_", "/")
                raise Fault(
                    "usage", what, f'a {info.type_name} takes programs of SEC("{section}"), not {program.label}'
                )
            at = number * info.value_size
            _VALUE.pack_into(values, at, _VALUE.unpack_from(values, at)[0], session.object.fd(program))
    try:
        maps.update(item.fd, info, 1, bytearray(keys), values, count)
    except OSError as error:
        fault = from_errno("map", what, error.errno or 0)
        if error.errno == errno.EINVAL and kind == "xdp_devmap":
            fault.fields["why"] = "there is no interface of such a number"
        raise fault from None
