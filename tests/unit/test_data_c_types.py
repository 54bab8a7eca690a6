"""Types as C again: those of data/kinds.bpf.o against the source they were made from, and what is no C name."""

from __future__ import annotations

from pathlib import Path

import pytest

from ebpf_magic import cell_texts, kernel_types
from ebpf_magic.data import c_types, kinds
from ebpf_magic.data.btf import Btf
from ebpf_magic.data.elf import BtfError

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def btf() -> Btf:
    return Btf.from_elf((DATA / "kinds.bpf.o").read_bytes())


def definition(btf: Btf, kind: int, name: str) -> str:
    return c_types.definition(btf, btf.names(kind)[name])


def test_a_struct(btf: Btf) -> None:
    assert definition(btf, kinds.STRUCT, "who") == "struct who {\n\tu32 pid;\n\tchar comm[16];\n};"


def test_members_of_every_shape(btf: Btf) -> None:
    text = definition(btf, kinds.STRUCT, "everything")
    for line in (
        "\tu8 a_u8;",
        "\t_Bool flag;",
        "\tchar letter;",
        "\tstate_t state;",
        "\tenum wide wide;",
        "\tstruct inner in;",
        "\tstruct {\n\t\tu32 anon_a;\n\t\tunion {\n\t\t\tu32 one_way;\n\t\t};\n\t};",
        "\tu8 grid[2][2];",
        "\tchar names[2][8];",
        "\tstruct inner many[2];",
        "\tfloat single;",
        "\tvoid *pointer;",
    ):
        assert f"\n{line}\n" in text


def test_bits_unions_and_enums(btf: Btf) -> None:
    # clang 14 does not say that an enum has a sign.
    assert "\tu32 three : 3;\n\tu32 five : 5;" in definition(btf, kinds.STRUCT, "bits")
    assert "\tunion {\n\t\tu32 number;\n\t\tfloat real;\n\t} as;" in definition(btf, kinds.STRUCT, "either")
    assert definition(btf, kinds.ENUM, "state").splitlines()[1:] == [
        "\tRUNNING = 0,", "\tSLEEPING = 1,", "\tSTOPPED = 4,", "\tZOMBIE = 4294967295,", "};",
    ]  # fmt: skip


def test_typedefs(btf: Btf) -> None:
    assert definition(btf, kinds.TYPEDEF, "comm_t") == "typedef char comm_t[16];"
    assert definition(btf, kinds.TYPEDEF, "state_t") == "typedef const enum state state_t;"


def made(*types: tuple[str, int, int, bytes]) -> Btf:
    """BTF of types by hand: name, info word, size or type, and what follows."""
    strings, body = b"\0", b""
    for name, info, ref, rest in types:
        body += (len(strings) if name else 0).to_bytes(4, "little") + info.to_bytes(4, "little")
        body += ref.to_bytes(4, "little") + rest
        strings += name.encode() + b"\0" if name else b""
    header = b"\x9f\xeb\x01\x00" + b"".join(
        number.to_bytes(4, "little") for number in (24, 0, len(body), len(body), len(strings))
    )
    return Btf(header + body + strings)


def words(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "little") for number in numbers)


INT = ("int", kinds.INT << 24, 4, words(1 << 24 | 32))


@pytest.mark.parametrize(
    ("types", "text"),
    [
        ([("", kinds.PTR << 24, 1, b"")], "int *name"),
        ([("", kinds.PTR << 24, 1, b""), ("", kinds.CONST << 24, 2, b"")], "int * const name"),
        ([("", kinds.CONST << 24, 1, b""), ("", kinds.PTR << 24, 2, b"")], "const int *name"),
        ([("", kinds.ARRAY << 24, 0, words(1, 1, 3)), ("", kinds.PTR << 24, 2, b"")], "int (*name)[3]"),
        ([("", kinds.PTR << 24, 1, b""), ("", kinds.ARRAY << 24, 0, words(2, 1, 3))], "int *name[3]"),
        ([("", kinds.FUNC_PROTO << 24 | 1, 1, words(0, 1)), ("", kinds.PTR << 24, 2, b"")], "int (*name)(int)"),
        ([("", kinds.FUNC_PROTO << 24 | 2, 0, words(0, 1, 0, 0)), ("", kinds.PTR << 24, 2, b"")],
         "void (*name)(int, ...)"),
        ([("", kinds.FUNC_PROTO << 24, 1, b""), ("", kinds.PTR << 24, 2, b""),
          ("", kinds.ARRAY << 24, 0, words(3, 1, 4))], "int (*name[4])(void)"),
        ([("user", kinds.TYPE_TAG << 24, 1, b""), ("", kinds.PTR << 24, 2, b"")], "int *name"),
        ([("gone", kinds.FWD << 24, 0, b""), ("", kinds.PTR << 24, 2, b"")], "struct gone *name"),
        ([("gone", 1 << 31 | kinds.FWD << 24, 0, b""), ("", kinds.PTR << 24, 2, b"")], "union gone *name"),
    ],
)  # fmt: skip
def test_declarations(types: list[tuple[str, int, int, bytes]], text: str) -> None:
    assert c_types.declaration(made(INT, *types), 1 + len(types), "name") == text


def test_a_name_that_is_none_is_made_one() -> None:
    strange = made(INT, ("```\n<b>", kinds.STRUCT << 24 | 1, 4, words(0, 1, 0)))
    assert "`" not in c_types.definition(strange, 2)
    assert "<" not in c_types.definition(strange, 2)


def test_types_without_an_end_are_an_error() -> None:
    with pytest.raises(BtfError, match="nest deeper"):
        c_types.declaration(made(("", kinds.PTR << 24, 1, b"")), 1, "name")


def test_a_text_without_an_end_is_an_error() -> None:
    # Each struct has the one before it 16 times, without a name: 16 to the 8th members.
    types = [INT, ("", kinds.STRUCT << 24 | 1, 4, words(0, 1, 0))]
    types += [("", kinds.STRUCT << 24 | 16, 4, words(*(0, 2 + number, 0) * 16)) for number in range(8)]
    with pytest.raises(BtfError, match="more than"):
        c_types.declaration(made(*types), len(types), "name")
    with pytest.raises(BtfError, match="more than"):
        btf = made(*types)
        cell_texts.places(btf, btf.type(len(types)))


def test_structs_within_themselves_are_an_error() -> None:
    btf = made(("", kinds.STRUCT << 24 | 1, 4, words(0, 1, 0)))
    with pytest.raises(BtfError, match="nest deeper"):
        c_types.declaration(btf, 1, "name")
    with pytest.raises(BtfError, match="members"):
        cell_texts.places(btf, btf.type(1))


def test_a_function_that_is_none_is_an_error() -> None:
    for types in ([("", kinds.PTR << 24, 1, b"")], [INT]):
        with pytest.raises(BtfError, match="is no function"):
            kernel_types.function_type(made(*types), 1)


def test_arguments_have_names_of_c() -> None:
    proto = ("", kinds.FUNC_PROTO << 24 | 2, 0, words(0, 1, 1, 1))
    btf = made(("*/ <b>`", kinds.INT << 24, 4, words(1 << 24 | 32)), proto, ("", kinds.PTR << 24, 2, b""),
               ("btf_trace_x", kinds.TYPEDEF << 24, 3, b""))  # fmt: skip
    assert kernel_types.arguments(btf, "x") == [("____b__", 1)]
