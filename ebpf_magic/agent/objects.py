"""A BPF object: opened, checked by the guard, loaded; what came of it."""

from __future__ import annotations

import ctypes as C
import errno as errnos
import fcntl
import os
import time
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from . import arena, bpf, declared, elf, guard, initial, kinds, libbpf, load_faults, maps, near, pins
from .attach import functions, replacing, struct_ops
from .declared import MapSpec, Program
from .fault import Fault, from_errno
from .libbpf import Library

# The verifier's log must come back complete; only what it writes costs memory. The second size is for a log that
# did not fit the first.
_LOG_SIZES = (16 << 20, 512 << 20)


class LoadedMap(NamedTuple):
    """A map in the kernel; the descriptor is the agent's own."""

    name: str
    fd: int
    info: maps.MapInfo
    internal: bool
    memory_bytes: int
    pin: str = ""  # where it was pinned by name, as people see it


class Limits(NamedTuple):
    """What the guard holds an object to."""

    allow_change: bool
    attaches: bool
    map_budget_bytes: int
    possible_cpus: int


class Wishes(NamedTuple):
    """What a person said about single programs and variables, and the objects whose functions may be replaced."""

    optional: Collection[str]  # programs
    targets: Mapping[str, str]  # by program
    initial: Mapping[str, str]  # what variables begin with, see `initial.set_values`
    sessions: Mapping[str, LoadedObject]  # by session


class LoadedObject:
    """A loaded object; `close` takes its programs out of the kernel, and the maps stay with their descriptors."""

    def __init__(
        self,
        library: Library,
        pointer: int,
        programs: list[Program],
        maps: list[LoadedMap],
        tables: Mapping[str, int],
        open_ns: int,
        load_ns: int,
        prints: bool,
        left_out: Mapping[str, Fault],
        off: Collection[str],
        notes: list[str],
    ) -> None:
        self.library = library
        self.programs = programs
        self.maps = maps
        self.tables = tables  # struct_ops maps: name -> libbpf's pointer, good until `close`
        self.open_ns = open_ns
        self.load_ns = load_ns
        self.prints = prints
        self.left_out = {*left_out, *off}
        self.notes = [*notes_on(left_out), *notes]
        self._pointer: int | None = pointer

    def describe_programs(self) -> list[dict[str, Any]]:
        """Describe the programs as the protocol has them."""
        return [self._describe(program) for program in self.programs]

    def fd(self, program: Program) -> int:
        """Descriptor of a loaded program."""
        return int(self.library.bpf_program__fd(program.pointer))

    def close(self) -> None:
        """Take the programs out of the kernel; safe to call twice."""
        if self._pointer is not None:
            self.library.bpf_object__close(self._pointer)
            self._pointer = None

    def _describe(self, program: Program) -> dict[str, Any]:
        info = bpf.prog_info(self.fd(program))
        return {
            "name": program.name,
            "section": program.section,
            "type": program.type_name,
            "kind": program.kind,
            "id": info.id,
            "insns": self.library.bpf_program__insn_cnt(program.pointer),
            "verified_insns": info.verified_insns,
            "xlated_bytes": info.xlated_prog_len,
            "jited_bytes": info.jited_prog_len,
        }


def load(
    library: Library,
    data: memoryview,
    name: str,
    limits: Limits,
    reuse: Mapping[str, LoadedMap],
    wishes: Wishes,
) -> LoadedObject:
    """Open an object, check it, load it; raises `Fault`, and then nothing of it stays in the kernel.

    A program that is optional and cannot be loaded is left out, unless that leaves none.
    """
    data = struct_ops.as_one_section(data)
    left_out: dict[str, Fault] = {}
    while True:
        try:
            return _load(library, data, name, limits, reuse, wishes, left_out)
        except Fault as fault:
            program = fault.fields["program"]
            # What the guard forbids is a decision to be made, not something that this kernel lacks.
            if program not in wishes.optional or program in left_out or fault.fields["kind"] in ("guard", "usage"):
                raise
            left_out[program] = fault


def notes_on(left_out: Mapping[str, Fault]) -> list[str]:
    """Say of each program that was left out why."""
    return [
        f"{name} is left out, as --optional allows: {fault.fields['what']}: {fault.fields['why']}"
        for name, fault in left_out.items()
    ]


def _in_tables(data: memoryview) -> set[str]:
    try:
        return elf.named_in(data, ".struct_ops")
    except elf.DamagedElf as error:
        raise Fault("load", "read the object", str(error)) from None


def _check_off(programs: list[Program], in_tables: Collection[str]) -> None:
    """Refuse to leave out what a table of struct_ops names: it would be none, and libbpf 1.1 crashes over it."""
    for program in programs:
        if not program.loads and program.name in in_tables:
            what, why = f"--attach {program.name}={declared.OFF}", "a table of struct_ops has this function"
            raise Fault("usage", what, why, "Take it out there.", program=program.name)


def _asleep(programs: list[Program], targets: Mapping[str, str]) -> list[str]:
    """Say which programs are left out because their sections begin with a question mark, and how to have them."""
    return [
        f"{program.name} is left out, as the ? in its section says: "
        f"--attach {program.name}={program.target(None) or kinds.example(program.kind)} takes it in"
        for program in programs
        if not program.loads and program.name not in targets
    ]


def _load(
    library: Library,
    data: memoryview,
    name: str,
    limits: Limits,
    reuse: Mapping[str, LoadedMap],
    wishes: Wishes,
    left_out: Mapping[str, Fault],
) -> LoadedObject:
    for log_size in _LOG_SIZES:
        log = libbpf.log_buffer(log_size)
        with library.printed() as lines:
            began = time.monotonic_ns()
            pointer = _open(library, data, name, log, lines)
            try:
                opened = time.monotonic_ns()
                in_tables = _in_tables(data)
                everything = declared.programs(library, pointer, wishes.targets, in_tables)
                _check_off(everything, in_tables)
                programs = _without(library, everything, wishes, left_out)
                specs = declared.map_specs(library, pointer, limits.possible_cpus)
                prints = _check(programs, specs, data, limits)
                functions.bind(library, programs)
                replacing.bind(library, programs, wishes.targets, wishes.sessions)
                _reuse(library, specs, reuse)
                initial.set_values(library, specs, wishes.initial)
                arena.place(library, specs)
                notes = [*_asleep(everything, wishes.targets), *pins.place(library, specs)]
                tables = {spec.name: spec.pointer for spec in specs if spec.type_name == "struct_ops"}
                struct_ops.prefer_links(library, list(tables.values()))
                checked = time.monotonic_ns()
                error = -library.bpf_object__load(pointer)
                loaded = time.monotonic_ns()
                if error == 0:
                    loaded_maps = _own_maps(library, specs)
                    return LoadedObject(
                        library,
                        pointer,
                        programs,
                        loaded_maps,
                        tables,
                        opened - began,
                        loaded - checked,
                        prints,
                        left_out,
                        [program.name for program in everything if not program.loads],
                        notes,
                    )
            except BaseException:
                library.bpf_object__close(pointer)
                raise
            library.bpf_object__close(pointer)
            text = libbpf.text_of(log)
            # Since 6.4 a log that does not fit keeps its end; before, it is ENOSPC.
            fits = error != errnos.ENOSPC and len(text) < log_size - 1024
            if fits or log_size == _LOG_SIZES[-1]:
                raise load_faults.explain(error, programs, lines, text, wishes.targets)
    raise AssertionError("unreachable: the last size of the log returns or raises")


def _without(library: Library, programs: list[Program], wishes: Wishes, left_out: Mapping[str, Fault]) -> list[Program]:
    """Have libbpf leave out the programs that could not be loaded; raises `Fault` when none of the others are left."""
    names = [program.name for program in programs]
    for name in sorted(wishes.optional):
        if name not in names:
            hint = f"Programs: {', '.join(names)}."
            raise Fault("usage", f"--optional {name}", "no such program", hint, near=near.close(name, names))
    kept = [program for program in programs if program.loads and program.name not in left_out]
    # A table of struct_ops that lacks one of its functions is none.
    needed = [left_out[each.name] for each in programs if each.name in left_out and each.kind == "struct_ops"]
    if left_out and (needed or not kept):
        raise next(iter(needed or left_out.values()))
    for program in programs:
        if program.name in left_out:
            library.bpf_program__set_autoload(program.pointer, False)
    return kept


def _open(library: Library, data: memoryview, name: str, log: Any, lines: list[str]) -> int:
    address, hold = libbpf.address_of(data) if len(data) else (0, None)
    log_hold = C.c_char.from_buffer(log)
    options = libbpf.OpenOpts(
        sz=C.sizeof(libbpf.OpenOpts),
        object_name=name.encode(),
        kernel_log_buf=C.addressof(log_hold),
        kernel_log_size=len(log),
    )
    pointer = library.bpf_object__open_mem(address, len(data), C.byref(options)) if len(data) else None
    del hold
    if not pointer:
        number = C.get_errno() if len(data) else errnos.EINVAL
        said = load_faults.complaints(lines)
        why = said[-1] if said else libbpf.OWN_ERRORS.get(number) or os.strerror(number)
        raise Fault("load", f"open object {name}", why, errno=number, log="\n".join(lines))
    return int(pointer)


def _check(programs: list[Program], specs: list[MapSpec], data: memoryview, limits: Limits) -> bool:
    """Hold the object to the limits; whether it prints."""
    try:
        calls = elf.calls(data)
        guard.check_programs(programs, calls, limits.allow_change, limits.attaches)
    except elf.DamagedElf as error:
        raise Fault("load", "read the object", str(error)) from None
    guard.check_maps(specs)
    guard.check_budget(specs, limits.map_budget_bytes, limits.possible_cpus)
    return bool(kinds.PRINT_HELPERS & calls.helpers.keys())


def _reuse(library: Library, specs: list[MapSpec], reuse: Mapping[str, LoadedMap]) -> None:
    by_name = {spec.name: spec for spec in specs}
    for name, old in reuse.items():
        spec = by_name.get(name)
        if spec is None:
            continue
        same = (spec.type, spec.key_size, spec.value_size, spec.max_entries)
        if same != (old.info.type, old.info.key_size, old.info.value_size, old.info.max_entries):
            raise Fault("usage", f"keep map {name}", "its type or sizes changed", "Run the cell without --keep-maps.")
        error = -library.bpf_map__reuse_fd(spec.pointer, old.fd)
        if error:
            raise from_errno("load", f"keep map {name}", error)


def _own_maps(library: Library, specs: list[MapSpec]) -> list[LoadedMap]:
    """Descriptors of the agent's own, so that the maps outlive the object."""
    result: list[LoadedMap] = []
    try:
        for spec in specs:
            fd = fcntl.fcntl(library.bpf_map__fd(spec.pointer), fcntl.F_DUPFD_CLOEXEC, 3)
            try:
                memory = bpf.memlock_bytes(fd) or spec.memory_bytes
                pin = f"{pins.ROOT}/{spec.name}" if spec.pinned else ""
                result.append(LoadedMap(spec.name, fd, maps.info(fd), spec.internal, memory, pin))
            except BaseException:
                os.close(fd)
                raise
    except BaseException:
        for loaded in result:
            os.close(loaded.fd)
        raise
    return result
