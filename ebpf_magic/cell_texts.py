"""Cells that work, written for a target: each counts what it sees, or gives it as rows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from ebpf_magic.data import c_types, kinds, tracepoint
from ebpf_magic.data.elf import BtfError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebpf_magic.data.btf import Btf, Type

# Members that tell one object from another, if there is one of them.
_TELLING = ("pid", "id", "i_ino", "tgid", "ifindex", "portid", "skc_num", "fd", "prog_id")
_MAX_MEMBERS = 1 << 16
_MAX_CHAIN = 64
_BOOL = 4  # an integer's encoding, BTF_INT_BOOL
_WORDS = frozenset(
    "auto break case char const continue default do double else enum extern float for goto if inline int long register "
    "restrict return short signed sizeof static struct switch typedef union unsigned void volatile while ctx typeof "
    "bool true false".split()
)
_MAP_OF = {
    "bpf_map_elem": "HASH(seen, u32, u64);",
    "bpf_sk_storage_map": (
        "struct {\n\t__uint(type, BPF_MAP_TYPE_SK_STORAGE);\n\t__uint(map_flags, BPF_F_NO_PREALLOC);\n"
        "\t__type(key, int);\n\t__type(value, u64);\n} seen SEC(\".maps\");"
    ),
    "sockmap": (
        "struct {\n\t__uint(type, BPF_MAP_TYPE_SOCKMAP);\n\t__uint(max_entries, 64);\n\t__type(key, u32);\n"
        "\t__type(value, u64);\n} seen SEC(\".maps\");"
    ),
}  # fmt: skip


class Cell(NamedTuple):
    """A cell's source, and the options it is run with."""

    source: str
    options: dict[str, object] = {}  # noqa: RUF012


def record_name(name: str) -> str:
    """Name the struct of a tracepoint's record, as C takes it: ``9p_client_req`` begins with a digit."""
    return f"{'_' if name[:1].isdigit() else ''}{_c_name(name)}_record"


def of_tracepoint(category: str, name: str, struct_name: str, record: list[tracepoint.Field]) -> Cell:
    """Count the hits of a tracepoint by the first number in its record, else by process."""
    found = tracepoint.numbers(record)
    key = f"ctx->{found[0].name}" if found else "PID()"
    return _counting(
        [tracepoint.struct(struct_name, record)],
        f"tracepoint/{category}/{name}",
        f"int on_{_c_name(name)}(struct {struct_name} *ctx)",
        [f"COUNT(hits, {key});"],
    )


def of_function(btf: Btf, name: str, proto: Type, section: str, options: dict[str, object] | None = None) -> Cell:
    """Count the calls of a function, or of a hook, by its first argument that is a number, else by process."""
    return _with_arguments(btf, name, btf.parameters(proto), section, options or {})


def of_return(section: str, name: str) -> Cell:
    """Count the returns of a function by what it returns."""
    head = f"int BPF_KRETPROBE(on_{_c_name(name)}, long result)"
    return _counting([], section, head, ["COUNT(hits, result);"])


def of_hit(section: str, name: str, key: str = "PID()") -> Cell:
    """Count the calls of a function of which no types are known."""
    return _counting([], section, f"int on_{_c_name(name)}(struct pt_regs *ctx)", [f"COUNT(hits, {key});"])


def of_syscall(name: str, record: list[tracepoint.Field]) -> Cell:
    """Count a system call at its function by its first argument that is a number, else by process."""
    fields = [field for field in record if not field.name.startswith(("common_", "__"))]
    named = [(f"{field.name}_" if field.name in _WORDS else field.name, "*" in field.type) for field in fields]
    parts = [f"on_{name}", *(f"{'const void *' if is_pointer else 'long '}{each}" for each, is_pointer in named)]
    key = next((each for each, is_pointer in named if not is_pointer), "PID()")
    return _counting([], f"ksyscall/{name}", f"int BPF_KSYSCALL({', '.join(parts)})", [f"COUNT(hits, {key});"])


def of_usdt(section: str, name: str, arguments: Sequence[str]) -> Cell:
    """Count the hits of a USDT probe by its first argument, else by process."""
    head = f"int BPF_USDT({', '.join([f'on_{_c_name(name)}', *arguments])})"
    return _counting([], section, head, [f"COUNT(hits, {arguments[0].split()[-1] if arguments else 'PID()'});"])


def of_raw_tracepoint(btf: Btf, name: str, arguments: Sequence[tuple[str, int]]) -> Cell:
    """Count the hits of a tracepoint with types."""
    return _with_arguments(btf, name, arguments, f"tp_btf/{name}", {})


def of_struct(
    btf: Btf, keyword: str, name: str, type_id: int, met: tuple[str, Sequence[tuple[str, int]], int] | None
) -> Cell:
    """Read a struct where a typed tracepoint hands it out; where none does, tell its size.

    Parameters
    ----------
    met : tuple, optional
        The raw tracepoint, its arguments, and which of them points to it.
    """
    is_module_s = btf.adds(type_id)
    if met is None:
        before = [f"{keyword} {name} {{\n}};"] if is_module_s else []
        return _told_once(before, f"size_of_{name}", f"bpf_core_type_size({keyword} {name})")
    point, arguments, which = met
    before, named = _declared(btf, _arguments(arguments))
    pointer, member = named[which][0], _telling(btf, arguments[which][1])
    if is_module_s:
        before, member = _cut_down(btf, name, type_id, before, member)
    body = [f"if ({pointer})", f"\tCOUNT(hits, {f'{pointer}->{member}' if member else '0'});"]
    return _counting(before, f"tp_btf/{point}", _head(point, named, "BPF_PROG"), body)


def of_form(section: str, context: str, result: str, before: str = "") -> str:
    """Count the runs of a program of any kind, which returns what lets everything pass."""
    value, _, why = result.partition(";")
    body = ["COUNT(hits, 0);", f"return {value};{why}"]
    parts = [*([before] if before else []), "HASH(hits, u64, u64);"]
    return _function(parts, section, f"int on_it({context} *ctx)", body)


def of_enum(name: str, values: Sequence[tuple[str, int]]) -> Cell:
    """Tell what the first name of an enum stands for in the kernel it runs on."""
    if not values:
        return Cell("")
    return _told_once([], f"value_of_{values[0][0]}", f"bpf_core_enum_value(enum {name}, {values[0][0]})")


def of_typedef(name: str) -> Cell:
    """Tell the size of what a typedef stands for."""
    return _told_once([], f"size_of_{name}", f"sizeof({name})")


def _told_once(before: list[str], name: str, what: str) -> Cell:
    """Give a program that does nothing but return a number, when it is run: ``session.run(name)``."""
    return Cell(_function(before, "syscall", f"int {_c_name(name)}(void *ctx)", [f"return {what};"]))


def _cut_down(btf: Btf, name: str, type_id: int, before: list[str], member: str) -> tuple[list[str], str]:
    """Define a module's struct, which vmlinux.h does not have, with the one member that is read; its place is found."""
    found = {each: member_id for each, _, member_id in places(btf, btf.type(type_id))}
    lines = [line for line in before if line != f"struct {name};"]
    is_known = member in found and not btf.adds(found[member])
    body = f"\t{c_types.declaration(btf, found[member], member)};\n" if is_known else ""
    made = f"struct {name} {{\n{body}}} __attribute__((preserve_access_index));"
    return [*lines, made], member if is_known else ""


def of_iterator(btf: Btf, name: str, context: Type) -> Cell:
    """Give one row for each object, with a number that tells it from others."""
    if name in _MAP_OF:
        return _over_map(name)
    told = next((found for member in _members(btf, context) if (found := _told(btf, *member))), None)
    names, values, before = ["number"], [".number = ctx->meta->seq_num"], []
    if told:
        member, type_id, field = told
        before = [f"{c_types.declaration(btf, type_id, member)} = ctx->{member};", "", f"if (!{member})", "\treturn 0;"]
        names.append(f"{field}_" if field in ("number", *_WORDS) else field)
        values.append(f".{names[-1]} = {member}->{field}")
    struct = "\n".join(["struct row {", *(f"\tu64 {each};" for each in names), "};"])
    body = [*before, f"struct row row = {{{', '.join(values)}}};", "ROW(ctx, row);", "return 0;"]
    return Cell(_function([struct], f"iter/{name}", f"int dump(struct bpf_iter__{name} *ctx)", body))


def _told(btf: Btf, member: str, type_id: int) -> tuple[str, int, str] | None:
    """Member of a context, its type, and what of the struct it points to tells it from others; None without such."""
    field = _telling(btf, type_id) if member != "meta" and btf.resolve(type_id).kind == kinds.PTR else ""
    return (member, type_id, field) if field else None


def _over_map(name: str) -> Cell:
    if name == "bpf_map_elem":
        struct = "struct row {\n\tu32 key;\n\tu64 value;\n};"
        body = [
            "u32 *key = ctx->key;", "u64 *value = ctx->value;", "", "if (!key || !value)", "\treturn 0;",
            "struct row row = {.key = *key, .value = *value};",
        ]  # fmt: skip
    else:
        struct = "struct row {\n\tu64 number;\n};"
        body = ["if (!ctx->sk)", "\treturn 0;", "struct row row = {.number = ctx->meta->seq_num};"]
    body += ["ROW(ctx, row);", "return 0;"]
    source = _function([_MAP_OF[name], struct], f"iter/{name}", f"int dump(struct bpf_iter__{name} *ctx)", body)
    return Cell(source, {"attach": {"dump": "seen"}})


def _with_arguments(
    btf: Btf, name: str, arguments: Sequence[tuple[str, int]], section: str, options: dict[str, object]
) -> Cell:
    typed = _arguments(arguments)
    macro = "BPF_KPROBE" if section.startswith("kprobe/") else "BPF_PROG"
    if not all(fits_register(btf, type_id) for _, type_id in typed):
        kind = "struct pt_regs" if macro == "BPF_KPROBE" else "u64"
        return _counting([], section, f"int on_{_c_name(name)}({kind} *ctx)", ["COUNT(hits, PID());"], options)
    before, named = _declared(btf, typed)
    key = next((each for each, type_id in typed if _is_number(btf, type_id)), "PID()")
    return _counting(before, section, _head(name, named, macro), [f"COUNT(hits, {key});"], options)


def fits_register(btf: Btf, type_id: int) -> bool:
    """Whether an argument is passed in one register: not a struct, not `...`."""
    found = btf.resolve(type_id)
    return found.kind in (kinds.PTR, kinds.ENUM, kinds.ENUM64) or (found.kind == kinds.INT and found.ref <= 8)


def _counting(
    before: list[str], section: str, head: str, body: list[str], options: dict[str, object] | None = None
) -> Cell:
    return Cell(_function([*before, "HASH(hits, u64, u64);"], section, head, [*body, "return 0;"]), options or {})


def _function(before: list[str], section: str, head: str, body: list[str]) -> str:
    lines = [f'SEC("{section}")', head, "{", *(f"\t{line}".rstrip() for line in body), "}"]
    return "\n\n".join([*before, "\n".join(lines)]) + "\n"


def _head(name: str, arguments: Sequence[tuple[str, str]], macro: str) -> str:
    return f"int {macro}({', '.join([f'on_{_c_name(name)}', *(text for _, text in arguments)])})"


def _declared(btf: Btf, arguments: Sequence[tuple[str, int]]) -> tuple[list[str], list[tuple[str, str]]]:
    """Declare arguments as C that vmlinux.h is enough for: what goes before them, and each one's name and text."""
    before: dict[str, None] = {}
    named = []
    for name, type_id in arguments:
        forward = _forward(btf, type_id)
        if forward is None:
            is_pointer = btf.resolve(type_id).kind == kinds.PTR
            named.append((name, f"void *{name}" if is_pointer else f"u64 {name}"))
        else:
            before.update(dict.fromkeys([forward] if forward else []))
            named.append((name, c_types.declaration(btf, type_id, name)))
    return list(before), named


def _forward(btf: Btf, type_id: int) -> str | None:
    """Declare what a module's type needs that vmlinux.h does not have; None where a declaration is not enough."""
    behind = False
    for _ in range(_MAX_CHAIN):
        found = btf.type(type_id)
        if not btf.adds(type_id) or found.kind == kinds.INT:
            return ""
        if found.kind in (kinds.STRUCT, kinds.UNION, kinds.FWD) and found.name and behind:
            return f"{c_types.declaration(btf, type_id)};"
        if found.kind not in (kinds.PTR, kinds.CONST, kinds.VOLATILE, kinds.RESTRICT, kinds.TYPE_TAG):
            return None
        behind = behind or found.kind == kinds.PTR
        type_id = found.ref
    raise BtfError(f"type {type_id} is a chain of references without an end")


def _arguments(arguments: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Give every argument a name that C and the macros allow."""
    named = []
    for number, (name, type_id) in enumerate(arguments):
        plain = _c_name(name) or f"arg{number}"
        named.append((f"{plain}_" if plain in _WORDS else plain, type_id))
    return named


def places(btf: Btf, of: Type) -> list[tuple[str, int, int]]:
    """Return the members a C program can name, also those of members without a name: name, place in bits, type id."""
    found: list[tuple[str, int, int]] = []
    left, seen = [(of, 0)], 0
    while left:
        holder, offset_bits = left.pop()
        for member in btf.members(holder) if holder.kind in (kinds.STRUCT, kinds.UNION) else ():
            at = offset_bits + member.offset_bits
            seen += 1
            if seen > _MAX_MEMBERS:
                raise BtfError(f"a struct of more than {_MAX_MEMBERS:,} members")
            if member.name:
                found.append((member.name, at, member.type_id))
            else:
                left.append((btf.resolve(member.type_id), at))
    return sorted(found, key=lambda member: member[1])


def _members(btf: Btf, of: Type) -> list[tuple[str, int]]:
    return [(name, type_id) for name, _, type_id in places(btf, of)]


def _telling(btf: Btf, type_id: int) -> str:
    """Return the member of what a pointer points to that tells one object from another; empty when there is none."""
    pointer = btf.resolve(type_id)
    target = btf.resolve(pointer.ref) if pointer.kind == kinds.PTR else pointer
    if target.kind != kinds.STRUCT:
        return ""
    names = [name for name, member in _members(btf, target) if _is_number(btf, member)]
    return next((name for name in _TELLING if name in names), names[0] if names else "")


def _is_number(btf: Btf, type_id: int) -> bool:
    """Whether a value tells something when it is counted by: an integer or enum, no bool."""
    found = btf.resolve(type_id)
    if found.kind != kinds.INT or found.ref > 8:
        return found.kind in (kinds.ENUM, kinds.ENUM64)
    encoding, _, bits = btf.integer(found)
    return bits == 8 * found.ref and not encoding & _BOOL


def _c_name(name: str) -> str:
    return re.sub(r"\W", "_", name)
