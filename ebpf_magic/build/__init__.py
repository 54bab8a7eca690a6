"""Cell text to ELF object: no kernel and no privilege needed, only a clang."""

from __future__ import annotations

from ebpf_magic.build import spare
from ebpf_magic.build.compiler import Built, compile_cell, keep
from ebpf_magic.build.headers import KernelTarget
from ebpf_magic.build.linking import check_resolved, link
from ebpf_magic.build.macros import macros_help
from ebpf_magic.build.objects import Object, name_of, read_object
from ebpf_magic.build.places import point_at
from ebpf_magic.build.source import Source
from ebpf_magic.build.toolchain import Toolchain, find_toolchain
from ebpf_magic.build.verifier import verifier_error

__all__ = [
    "Built",
    "KernelTarget",
    "Object",
    "Source",
    "Toolchain",
    "check_resolved",
    "compile_cell",
    "find_toolchain",
    "keep",
    "link",
    "macros_help",
    "name_of",
    "point_at",
    "read_object",
    "settle",
    "verifier_error",
]


def settle() -> None:
    """Do what could wait until a cell is attached: keep what was compiled, have a compiler wait for the next cell."""
    spare.prepare()
    keep()
