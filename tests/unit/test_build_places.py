"""Where in a cell that is what was refused."""

from __future__ import annotations

import pytest

from ebpf_magic.build import Built, Source, point_at
from ebpf_magic.errors import AttachError, EbpfMagicError, LoadError

CELL = """// SEC("raw_tp/x") int first(void)
extern int
bpf_kfunc(struct task_struct *task) __ksym;
HASH(short_map, u32, u64);
struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
} long_map SEC(".maps");
SEC("raw_tp/x")
int first(void *ctx) { return bpf_kfunc(0); }
SEC("fentry/y") int
BPF_PROG(second, int first) { return 0; }
#ifdef ARM
SEC("kprobe/arm")
#else
SEC("kprobe/x64")
#endif
int either(void *ctx) { return 0; }
"""


def line_of(**about: str) -> int | None:
    error = EbpfMagicError("load", **about)
    point_at(Built(b"", Source(CELL), False, "none", 0, ""), error)
    return error.line


@pytest.mark.parametrize(
    ("about", "line"),
    [
        ({"program": "first"}, 8),
        ({"program": "second", "target": "y"}, 10),
        ({"program": "either"}, 15),
        ({"target": "bpf_kfunc"}, 3),
        ({"target": "short_map"}, 4),
        ({"target": "long_map"}, 7),
        ({"program": "third"}, None),
        ({"target": "u32"}, None),
        ({"target": "a.*("}, None),
        ({}, None),
    ],
)
def test_the_line_of_what_an_error_is_about(about: dict[str, str], line: int | None) -> None:
    assert line_of(**about) == line


def test_the_text_shows_that_line() -> None:
    error = AttachError("attach raw_tp x", "no such tracepoint", "Another.", program="first")
    point_at(Built(b"", Source(CELL), False, "none", 0, ""), error)
    assert str(error) == 'attach raw_tp x: no such tracepoint\n    8 | SEC("raw_tp/x")\nAnother.'


def test_a_line_that_is_known_stays() -> None:
    error = LoadError("load", line=3, program="first")
    point_at(Built(b"", Source(CELL), False, "none", 0, ""), error)
    assert (error.line, error.excerpt) == (3, "")
