"""Program arrays, through which programs call on: filled by name, since no program leaves the agent."""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING

from . import kinds, maps
from .fault import Fault, from_errno

if TYPE_CHECKING:
    from .declared import Program
    from .objects import LoadedMap
    from .sessions import Session


def fill(session: Session, item: LoadedMap, wanted: Mapping[str, str]) -> None:
    """Put programs of the session where the array's indices say: ``{"0": "name"}``; raises `Fault`."""
    what = f"update map {item.name}"
    if item.info.type_name != "prog_array":
        raise Fault("usage", what, f"it is a {item.info.type_name}, and only a prog_array takes programs")
    if session.state == "detached":
        raise Fault("gone", what, "the session's programs are out of the kernel")
    entries = {_index(what, item, key): session.program(name) for key, name in wanted.items()}
    for index, program in entries.items():
        key, fd = struct.pack("=I", index), struct.pack("=I", session.object.fd(program))
        try:
            maps.update(item.fd, item.info, 1, bytearray(key), bytearray(fd), 1)
        except OSError as error:
            fault = from_errno("map", f"{what} at {index} with {program.name}", error.errno or 0)
            if error.errno == errno.EINVAL:
                fault.fields["why"] = "a prog_array takes programs of one kind, that of the program which calls them"
            raise fault from None


def without_targets_of_calls(programs: list[Program], targets: Mapping[str, str]) -> list[Program]:
    """Leave out the programs that only others call: those that nobody gave a target, where some have one."""
    given = {program.kind for program in programs if program.name in targets}
    with_target = [
        program
        for program in programs
        if program.target(targets.get(program.name)) or not (kinds.KINDS[program.kind].example or program.kind in given)
    ]
    return with_target or programs


def _index(what: str, item: LoadedMap, text: str) -> int:
    if not text.isdecimal() or int(text) >= item.info.max_entries:
        raise Fault("usage", what, f"{text} is no index of it: it has {item.info.max_entries:,} entries")
    return int(text)
