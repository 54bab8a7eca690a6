"""A BPF object: opened, checked by the guard, loaded; what came of it."""

from __future__ import annotations

import ctypes as C
import errno as errnos
import fcntl
import os
import re
import time
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from . import arena, bpf, elf, guard, initial, kinds, libbpf, map_kinds, maps, near, pins
from .attach import functions, replacing, struct_ops, usdt
from .fault import Fault, from_errno
from .libbpf import Library
from .privileges import missing

# The verifier's log must come back complete; only what it writes costs memory. The second size is for a log that
# did not fit the first.
_LOG_SIZES = (16 << 20, 512 << 20)
_FAILED_PROGRAM = re.compile(r"prog '([^']*)': BPF program load failed")
_HIDDEN_MAP = re.compile(r"\.(?:bss|data|rodata|kconfig)\b[\w.]*$")


class Program(NamedTuple):
    """A program of an opened object."""

    pointer: int
    name: str
    section: str
    type: int
    attach_type: int
    type_name: str
    kind: str  # "" when not offered

    @property
    def label(self) -> str:
        """The program and its section, as error texts name it."""
        return f'program {self.name}, SEC("{self.section}")'

    def target(self, given: str | None) -> str:
        """Where it goes: to the target given, which may begin with the kind, else to what its section names."""
        if given is None:
            return self.section.partition("/")[2]
        return given[len(self.kind) + 1 :] if given.startswith(f"{self.kind}:") else given


class MapSpec(NamedTuple):
    """A map of an opened object."""

    pointer: int
    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    internal: bool
    pinned: bool
    memory_bytes: int
    extra: int

    @property
    def type_name(self) -> str:
        """The type in libbpf's words."""
        return maps.TYPE_NAMES.get(self.type, str(self.type))


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
        notes: list[str],
    ) -> None:
        self.library = library
        self.programs = programs
        self.maps = maps
        self.tables = tables  # struct_ops maps: name -> libbpf's pointer, good until `close`
        self.open_ns = open_ns
        self.load_ns = load_ns
        self.prints = prints
        self.left_out = left_out.keys()
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
                programs = _without(library, _programs(library, pointer), wishes, left_out)
                specs = _map_specs(library, pointer, limits.possible_cpus)
                prints = _check(programs, specs, data, limits)
                replacing.bind(library, programs, wishes.targets, wishes.sessions)
                _reuse(library, specs, reuse)
                initial.set_values(library, specs, wishes.initial)
                arena.place(library, specs)
                notes = pins.place(library, specs)
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
                raise _load_fault(error, programs, lines, text, wishes.targets)
    raise AssertionError("unreachable: the last size of the log returns or raises")


def _without(library: Library, programs: list[Program], wishes: Wishes, left_out: Mapping[str, Fault]) -> list[Program]:
    """Have libbpf leave out the programs that could not be loaded; raises `Fault` when none are left."""
    names = [program.name for program in programs]
    for name in sorted(wishes.optional):
        if name not in names:
            hint = f"Programs: {', '.join(names)}."
            raise Fault("usage", f"--optional {name}", "no such program", hint, near=near.close(name, names))
    kept = [program for program in programs if program.name not in left_out]
    if left_out and not kept:
        raise next(iter(left_out.values()))
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
        said = _complaints(lines)
        why = said[-1] if said else libbpf.OWN_ERRORS.get(number) or os.strerror(number)
        raise Fault("load", f"open object {name}", why, errno=number, log="\n".join(lines))
    return int(pointer)


def _check(programs: list[Program], specs: list[MapSpec], data: memoryview, limits: Limits) -> bool:
    """Hold the object to the limits; whether it prints."""
    try:
        calls = elf.calls(data)
        guard.check_programs(programs, calls, limits.allow_change)
    except elf.DamagedElf as error:
        raise Fault("load", "read the object", str(error)) from None
    guard.check_maps(specs)
    guard.check_budget(specs, limits.map_budget_bytes, limits.possible_cpus)
    return bool(kinds.PRINT_HELPERS & calls.helpers.keys())


def _programs(library: Library, pointer: int) -> list[Program]:
    result = []
    item = library.bpf_object__next_program(pointer, None)
    while item:
        section = library.bpf_program__section_name(item).decode(errors="replace")
        if section == ".text":  # a function that is the only one of its object, which libbpf takes for a program
            library.bpf_program__set_autoload(item, False)
            item = library.bpf_object__next_program(pointer, item)
            continue
        number = library.bpf_program__type(item) or _give_type(library, item, section)
        attach_type = library.bpf_program__expected_attach_type(item)
        type_name = library.libbpf_bpf_prog_type_str(number)
        result.append(
            Program(
                item,
                library.bpf_program__name(item).decode(errors="replace"),
                section,
                number,
                attach_type,
                type_name.decode() if type_name else str(number),
                kinds.attach_kind(number, attach_type, section) or "",
            )
        )
        item = library.bpf_object__next_program(pointer, item)
    return result


def _give_type(library: Library, pointer: int, section: str) -> int:
    """Type of a program whose section only newer versions of libbpf know; 0 when nobody does."""
    known = kinds.TYPED.get(section) or kinds.TYPED.get(section.partition("/")[0])
    if known is None:
        return 0
    number, attach_type, flags = known
    library.bpf_program__set_type(pointer, number)
    library.bpf_program__set_expected_attach_type(pointer, attach_type)
    library.bpf_program__set_flags(pointer, library.bpf_program__flags(pointer) | flags)
    return number


def _map_specs(library: Library, pointer: int, possible_cpus: int) -> list[MapSpec]:
    result = []
    item = library.bpf_object__next_map(pointer, None)
    while item:
        name = library.bpf_map__name(item).decode(errors="replace")
        internal = library.bpf_map__is_internal(item) or name in usdt.MAPS
        number = library.bpf_map__type(item)
        key_size, value_size = library.bpf_map__key_size(item), library.bpf_map__value_size(item)
        max_entries = library.bpf_map__max_entries(item)
        memory = map_kinds.memory_bytes(
            maps.TYPE_NAMES.get(number, ""), key_size, value_size, max_entries, possible_cpus
        )
        result.append(
            MapSpec(
                item,
                _map_name(name, internal),
                number,
                key_size,
                value_size,
                max_entries,
                library.bpf_map__map_flags(item),
                internal,
                library.bpf_map__pin_path(item) is not None,
                memory,
                library.bpf_map__map_extra(item),
            )
        )
        item = library.bpf_object__next_map(pointer, item)
    return result


def _map_name(name: str, internal: bool) -> str:
    """Name of the section for libbpf's own maps, which it calls ``object.bss``."""
    match = _HIDDEN_MAP.search(name) if internal else None
    return match[0] if match else name


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


def _load_fault(error: int, programs: list[Program], lines: list[str], log: str, targets: Mapping[str, str]) -> Fault:
    failed = next((match[1] for line in lines if (match := _FAILED_PROGRAM.search(line))), None)
    program = next((program for program in programs if program.name == failed), None)
    what = f"load {program.label}" if program else "load the object"
    text = "\n".join(line for line in lines if "-- BEGIN PROG LOAD LOG --" not in line)
    unresolved = functions.unresolved(programs, lines)
    if unresolved:
        return unresolved
    refused = functions.not_attachable(program, log) if program else None
    refused = refused or struct_ops.unused(programs, program, error, lines)
    if program and program.kind == "freplace":
        refused = replacing.why_refused(program, program.target(targets.get(program.name)), log)
    if refused:
        return refused
    if program and log.strip():
        verdict = _verdict(log)
        return Fault("verifier", what, verdict or os.strerror(error), errno=error, program=program.name, log=log)
    needs = kinds.KINDS[program.kind].needs if program else ("BPF", "PERFMON")
    fault = from_errno("load", what, error, needs, program=failed, log=log.strip() or text)
    if fault.fields["kind"] == "permission" and program and program.kind in kinds.BY_FUNCTION and not missing(needs):
        fault.fields["hint"] = f"A VM with a distribution's kernel lets {program.kind} programs be: --on vm."
    said = _complaints(lines)
    if fault.fields["kind"] == "load":
        fault.fields["why"] = libbpf.OWN_ERRORS.get(error) or fault.fields["why"]
        if said:
            fault.fields["why"] += f": {_cause(said)}"
    return fault


def _verdict(log: str) -> str:
    """Take the verifier's own last words on the instruction it refused."""
    lines = [line for line in log.rstrip().splitlines() if line.strip()]
    useful = [line for line in lines[-8:] if not line.startswith(("processed ", "verification time", "stack depth"))]
    return useful[-1].strip() if useful else ""


def _complaints(lines: list[str]) -> list[str]:
    """Leave out what libbpf only notes: sections that mean nothing to it."""
    return [line for line in lines if not line.startswith("elf: skipping ")]


def _cause(lines: list[str]) -> str:
    """Find the first complaint that says more than that loading failed."""
    return next((line for line in lines if "failed to load" not in line and "LOAD LOG" not in line), lines[-1])
