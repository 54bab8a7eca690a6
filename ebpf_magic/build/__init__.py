"""Cell text to ELF object: no kernel and no privilege needed, only a clang."""

from __future__ import annotations

from ebpf_magic.build.compiler import Built, compile_cell
from ebpf_magic.build.headers import KernelTarget
from ebpf_magic.build.macros import macros_help
from ebpf_magic.build.source import Source
from ebpf_magic.build.spare import prepare
from ebpf_magic.build.toolchain import Toolchain, find_toolchain
from ebpf_magic.build.verifier import verifier_error

__all__ = [
    "Built",
    "KernelTarget",
    "Source",
    "Toolchain",
    "compile_cell",
    "find_toolchain",
    "macros_help",
    "prepare",
    "verifier_error",
]
