"""Errors say what was tried, why it failed and what to do."""

from __future__ import annotations

import inspect

from ebpf_magic import errors


def test_text_has_what_why_near_excerpt_and_hint() -> None:
    error = errors.AttachError(
        "attach tracepoint syscalls/sys_enter_opnat",
        "no such tracepoint",
        "List them with %ebpf probes.",
        near=["sys_enter_openat"],
        excerpt="   3 | SEC(...)",
    )
    assert str(error) == (
        "attach tracepoint syscalls/sys_enter_opnat: no such tracepoint (near: sys_enter_openat)\n"
        "   3 | SEC(...)\nList them with %ebpf probes."
    )


def test_tree_at_the_top_is_the_tree() -> None:
    assert errors.__doc__ is not None
    classes = [
        name for name, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, errors.EbpfMagicError)
    ]
    for name in classes:
        assert name in errors.__doc__


def test_every_wire_kind_becomes_its_class() -> None:
    for kind, expected in errors._BY_KIND.items():
        made = errors.from_wire({"kind": kind, "what": "w", "why": "y", "errno": 2, "near": ["a"]}, "the log")
        assert type(made) is expected
        assert (made.what, made.why, made.errno, made.near, made.log) == ("w", "y", 2, ["a"], "the log")


def test_nonsense_from_the_wire_is_still_an_error() -> None:
    made = errors.from_wire({"kind": 7, "what": [], "near": 3, "errno": "x"})
    assert type(made) is errors.HostError
    assert str(made)


def test_notebook_shows_the_message_and_not_our_frames() -> None:
    assert errors.UsageError("a", "b")._render_traceback_() == ["UsageError: a: b"]
