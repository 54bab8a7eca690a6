"""What may be loaded at all: the checks between opening an object and loading it.

Each refusal says the figure, the limit, and the option that raises it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from . import elf, kinds, map_kinds, maps, near
from .fault import Fault

if TYPE_CHECKING:
    from .declared import MapSpec, Program

# Such as they may be; of some kinds not just any will do.
_SIZES = {"key_size": "sizeof(__u32)", "value_size": "sizeof(__u64)", "max_entries": "10240"}
_SIZES_OF = {
    "stack_trace": {"value_size": "127 * sizeof(__u64)"},
    "ringbuf": {"max_entries": "256 * 1024"},
    "user_ringbuf": {"max_entries": "256 * 1024"},
}
_ALLOW = "--allow-change (allow_change=True) permits it"


def check_programs(programs: list[Program], calls: elf.Calls, allow_change: bool, attaches: bool) -> None:
    """Refuse unknown sections, what changes behaviour, and kinds that are not offered.

    What will not be attached changes nothing by its kind, only by what it calls when it is run by itself.
    """
    for program in programs:
        if program.type == 0:
            raise _unknown_section(program)
    if not allow_change:
        if attaches:
            _check_kinds(programs)
        _check_calls(programs, calls)
    for program in programs:
        if not program.kind:
            raise Fault(
                "unsupported",
                f"load {program.label}",
                f"{program.section.partition('/')[0]} programs ({program.type_name}) are not offered yet",
                f"Offered: {', '.join(kinds.KINDS)}.",
                program=program.name,
            )
    _check_by_btf(programs)


def check_maps(specs: list[MapSpec]) -> None:
    """Refuse map kinds that nothing here knows how to hold within limits."""
    for spec in specs:
        if spec.type_name not in map_kinds.OFFERED:
            raise Fault(
                "unsupported",
                f"load map {spec.name}",
                f"maps of kind {spec.type_name} are not offered yet",
                f"Offered: {', '.join(sorted(map_kinds.OFFERED))}.",
                target=spec.name,
            )
        _check_sizes(spec)


def _check_sizes(spec: MapSpec) -> None:
    """Refuse sizes that a program's own loader would set; of them the kernel says no more than EINVAL."""
    lacks = [name for name in map_kinds.SIZES.get(spec.type_name, map_kinds.ALL_SIZES) if not getattr(spec, name)]
    if lacks and not spec.internal:
        sizes = {**_SIZES, **_SIZES_OF.get(spec.type_name, {})}
        raise Fault(
            "load",
            f"load map {spec.name}",
            f"it has no {' and no '.join(lacks)}: the loader it was written for sets that",
            f"Write it into the map: {' '.join(f'__uint({name}, {sizes[name]});' for name in lacks)}",
            target=spec.name,
        )


def check_budget(specs: list[MapSpec], budget_bytes: int, possible_cpus: int) -> None:
    """Refuse maps that could together take more kernel memory than the budget."""
    total = sum(spec.memory_bytes for spec in specs)
    if total <= budget_bytes:
        return
    largest = max(specs, key=lambda spec: spec.memory_bytes)
    cpus = f" (on {possible_cpus} possible CPUs)" if largest.type_name in maps.PER_CPU else ""
    raise Fault(
        "guard",
        "load maps",
        f"they could take {_size(total)} of kernel memory, the budget is {_size(budget_bytes)}; "
        f"the largest is {largest.name}: {largest.type_name} of {largest.max_entries:,} entries, "
        f"{_size(largest.memory_bytes)}{cpus}",
        f"Make it smaller, or allow more: --map-budget {_rounded_up(total)}.",
        target=largest.name,
    )


def _check_kinds(programs: list[Program]) -> None:
    for program in programs:
        if kinds.changes_behaviour(program.type, program.attach_type):
            raise Fault(
                "guard",
                f"load {program.label}",
                f"{program.section.partition('/')[0]} programs can change what the machine does",
                f"If that is meant, {_ALLOW}; --no-attach (attach=False) only loads it.",
                program=program.name,
            )


def _check_calls(programs: list[Program], called: elf.Calls) -> None:
    helpers = kinds.CHANGING_HELPERS
    calls = [(helpers[number], section) for number, section in called.helpers.items() if number in helpers]
    calls += [(name, "a program") for name in sorted(called.undefined & kinds.CHANGING_KFUNCS)]
    if calls:
        helper, section = calls[0]
        names = [program.name for program in programs if program.section == section]
        where = f'SEC("{section}")' if names else section
        raise Fault(
            "guard",
            f"load {programs[0].label if len(programs) == 1 else 'the programs'}",
            f"{where} calls {helper}(), which can change what the machine does",
            f"If that is meant, {_ALLOW}.",
            program=names[0] if len(names) == 1 else None,
        )


def _unknown_section(program: Program) -> Fault:
    known = {example.partition("/")[0]: example for example in kinds.section_examples()}
    examples = ", ".join(known.values())
    return Fault(
        "load",
        f"load program {program.name}",
        f'unknown section SEC("{program.section}")',
        f"Say what it is by where it goes, --attach {program.name}=tc:eth0:egress or another of "
        f"{', '.join(kinds.NAMED)}; or by its section: {examples}.",
        near=[known[name] for name in near.close(program.section.partition("/")[0], known)],
        program=program.name,
        target=program.section,
    )


def _check_by_btf(programs: list[Program]) -> None:
    """Check targets that are resolved while loading: there libbpf only says -3 or -22."""
    wanted = [program for program in programs if program.kind in kinds.BY_BTF]
    tracepoints = near.raw_tracepoint_names() if any(program.kind == "tp_btf" for program in wanted) else set()
    for program in wanted:
        name = program.section.partition("/")[2]
        what, about = f"attach {program.section}", _about(program, name)
        if not os.path.exists(near.BTF):
            instead = {
                "tp_btf": "Use raw_tp instead.",
                "fentry": "Use kprobe instead.",
                "fexit": "Use kretprobe instead.",
            }
            why = "this kernel has no BTF (/sys/kernel/btf/vmlinux)"
            raise Fault("load", what, why, instead.get(program.kind, ""), **about)
        if not name:
            kind = kinds.KINDS[program.kind]
            hint = f'Write SEC("{kind.sections[0]}")'
            hint += "." if kind.prefix else f", or name one: --attach {program.name}={kind.example}."
            raise Fault("attach", what, "the section names no target", hint, **about)
        if program.kind == "tp_btf" and name not in tracepoints:
            raise Fault("attach", what, "no such tracepoint", near=near.close(name, tracepoints), **about)


def _about(program: Program, target: str) -> dict[str, Any]:
    return {"program": program.name, "target": target}


def _size(count: int) -> str:
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count} bytes"


def _rounded_up(count: int) -> str:
    return f"{-(-count >> 20)}M" if count < 1 << 30 else f"{-(-count >> 30)}G"
