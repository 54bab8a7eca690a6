"""What the verifier refuses is shown on the cell's own line, whatever the kernel's logs look like.

Each cell has the line at fault marked. Kernels before 6.8 print the text of a source line in their logs and not its
number: there are lines of the same text in these cells, and the first of them is not the one.
"""

from __future__ import annotations

import pytest
import rights

import ebpf_magic as em
from ebpf_magic.build.linked import pieces
from ebpf_magic.data.elf import Elf
from ebpf_magic.errors import VerifierError

pytestmark = [pytest.mark.live, pytest.mark.any_host]

PROBE = 'SEC("tp/syscalls/sys_enter_getppid") int f(void *ctx) {\n'
LOOKUP = "    u32 key = 1;\n    u64 *value = bpf_map_lookup_elem(&counts, &key);\n"
COUNTS = "HASH(counts, u32, u64);\n"
CELLS = {
    "a value that may be NULL": COUNTS + PROBE + LOOKUP + "    *value += 1;  // here\n    return 0;\n}\n",
    "the second of two equal lines": COUNTS
    + PROBE
    + LOOKUP
    + "    if (value) {\n        *value += 1;\n    }\n    key = 2;\n    value = bpf_map_lookup_elem(&counts, &key);\n"
    + "        *value += 1;  // here\n    return 0;\n}\n",
    "equal to the letter": COUNTS
    + PROBE
    + LOOKUP
    + "    if (value) {\n    *value += 1;\n    }\n    key = 2;\n    value = bpf_map_lookup_elem(&counts, &key);\n"
    + "    *value += 1;\n    return 0;\n}\n",
    "in a function": COUNTS
    + "static __noinline u64 take(u32 key) {\n    u64 *value = bpf_map_lookup_elem(&counts, &key);\n"
    + "    return *value;  // here\n}\n"
    + PROBE
    + "    return take(PID());\n}\n",
    "in the second of two functions": COUNTS
    + "static __noinline u64 one(u32 key) {\n    u64 *value = bpf_map_lookup_elem(&counts, &key);\n"
    + "    return value ? *value : 0;\n}\n"
    + "static __noinline u64 two(u32 key) {\n    u64 *value = bpf_map_lookup_elem(&counts, &key);\n"
    + "    return *value;  // here\n}\n"
    + PROBE
    + "    return one(PID()) + two(PID());\n}\n",
    "in a global function": COUNTS
    + "__noinline u64 take(u32 key) {\n    u64 *value = bpf_map_lookup_elem(&counts, &key);\n"
    + "    return *value;  // here\n}\n"
    + PROBE
    + "    return take(PID());\n}\n",
    "in the second program": COUNTS
    + 'SEC("tp/syscalls/sys_enter_getpid") int good(void *ctx) {\n    return 0;\n}\n'
    + PROBE
    + LOOKUP
    + "    return *value;  // here\n}\n",
    "a number taken for a pointer": PROBE + "    u64 *p = (void *)PID();\n    return *p;  // here\n}\n",
    "a loop without an end": PROBE + '    while (1) {  // here\n        asm volatile("");\n    }\n    return 0;\n}\n',
    "equal lines in two functions": COUNTS
    + "static __noinline u64 one(u32 key) {\n    u64 *value = bpf_map_lookup_elem(&counts, &key);\n    if (!value)\n"
    + "        return 0;\n    return *value;\n}\n"
    + "static __noinline u64 two(u32 key) {\n    u64 *value = bpf_map_lookup_elem(&counts, &key);\n"
    + "    return *value;\n}\n"
    + PROBE
    + "    return one(PID()) + two(PID());\n}\n",
    "equal lines in functions that call each other": COUNTS
    + "static __noinline u64 last(u32 key) {\n    u64 *value = bpf_map_lookup_elem(&counts, &key);\n"
    + "    return *value;\n}\n"
    + "static __noinline u64 inner(u32 key) {\n    u64 *value = bpf_map_lookup_elem(&counts, &key);\n"
    + "    if (!value)\n        return 0;\n    return *value;\n}\n"
    + "static __noinline u64 outer(u32 key) {\n    return inner(key) + 1;\n}\n"
    + PROBE
    + "    return outer(PID()) + last(PID()) + inner(1);\n}\n",
    "in a function called back": COUNTS
    + "static int each(u32 index, u64 *sum) {\n    u64 *value = bpf_map_lookup_elem(&counts, &index);\n"
    + "    *sum += *value;  // here\n    return 0;\n}\n"
    + PROBE
    + "    u64 sum = 0;\n    bpf_loop(4, each, &sum, 0);\n    return sum;\n}\n",
    "an index out of bounds": "ARRAY(cells, u32, 4);\n"
    + PROBE
    + "    u32 key = 0;\n    u32 *value = bpf_map_lookup_elem(&cells, &key);\n    if (!value)\n        return 0;\n"
    + "    return value[bpf_get_prandom_u32() & 255];  // here\n}\n",
    "a helper of another kind": PROBE + "    return bpf_get_retval();  // here\n}\n",
    "stack that was never written": COUNTS
    + PROBE
    + '    u32 key;\n    asm volatile("" :: "r"(&key));\n'
    + "    u64 *value = bpf_map_lookup_elem(&counts, &key);\n    return value ? 1 : bpf_probe_read_kernel(&key, -1, 0);"
    + "  // here\n}\n",
}


UNMARKED = {
    "equal to the letter": 10,
    "equal lines in two functions": 10,
    "equal lines in functions that call each other": 4,
}


def line_at_fault(name: str, cell: str) -> int:
    marked = [number for number, line in enumerate(cell.splitlines(), 1) if line.endswith("// here")]
    return marked[0] if marked else UNMARKED[name]


@pytest.mark.parametrize("name", CELLS)
def test_the_line_at_fault(name: str) -> None:
    cell = CELLS[name]
    with pytest.raises(VerifierError) as caught:
        em.run(cell, on=rights.host_name())
    error = caught.value
    assert error.line == line_at_fault(name, cell), error.log[-2000:]
    assert cell.splitlines()[error.line - 1].strip() in str(error)
    assert error.why.startswith("the verifier says: ")
    assert "processed" in error.log


def test_the_layout_is_libbpfs() -> None:
    """The kernel says how many instructions the program has with all the functions that libbpf appended."""
    cell = CELLS["equal lines in functions that call each other"].replace(
        "    return *value;", "    return value ? *value : 0;"
    )
    with em.run(cell, on=rights.host_name()) as session:
        elf = Elf(session._built.object)
        laid = pieces(elf, elf.symbols["f"])
        assert [piece.section for piece in laid] == [elf.symbols["f"].section, ".text", ".text", ".text"]
        assert laid[-1].start + laid[-1].length == session.program_rows[0]["insns"]
