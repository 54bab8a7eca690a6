"""vmlinux.h, every type of the kernel as C, made from its BTF."""

from __future__ import annotations

import re
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

from ebpf_magic.errors import ToolchainError

_HEAD = b"""#ifndef __VMLINUX_H__
#define __VMLINUX_H__

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)
#endif

"""
TAIL = b"""
#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute pop
#endif

#endif
"""
_WHAT = "make vmlinux.h from the kernel's BTF"
_DUMP = Path(__file__).with_name("dump.py")
_DEADLINE_S = 60
# struct btf_header of include/uapi/linux/btf.h: its length, and where the names are behind it.
_HEADER = struct.Struct("<2sBBIIIII")
# A name that had quotes, braces or lines in it could be any C, which a guest would have this machine's compiler read.
_NO_NAME = re.compile(rb"[^\w\0 .()<>:,*&$@+=\[\]-]")


def vmlinux_h(btf: bytes) -> bytes:
    """Write a kernel's types as a C header, as bpftool does.

    Parameters
    ----------
    btf : bytes
        What /sys/kernel/btf/vmlinux holds; it is not trusted.

    Raises
    ------
    ToolchainError
        When libbpf is missing or cannot read it, or its names are none.

    Requires
    --------
    libbpf 1.0 or later on this machine; no privilege.
    """
    if not btf:
        raise ToolchainError(_WHAT, "the kernel gave none", "It needs a kernel built with CONFIG_DEBUG_INFO_BTF=y.")
    if found := _NO_NAME.search(_names(btf)):
        raise ToolchainError(_WHAT, f"its names are none that C has: one has the character {found[0]!r}")
    python = sys.executable or shutil.which("python3") or "python3"
    words = [python, "-I", "-S", str(_DUMP)]
    try:
        done = subprocess.run(words, input=btf, capture_output=True, timeout=_DEADLINE_S, check=False)
    except subprocess.TimeoutExpired:
        raise ToolchainError(_WHAT, f"libbpf did not finish within {_DEADLINE_S} s: it is damaged") from None
    except OSError as error:
        raise ToolchainError(_WHAT, f"{python} cannot be started: {error.strerror}", errno=error.errno) from None
    if done.returncode < 0:
        raise ToolchainError(
            _WHAT, f"it is damaged: libbpf was ended by {signal.Signals(-done.returncode).name}", log=_text(done.stderr)
        )
    if done.returncode:
        why, hint, *_ = [*_text(done.stderr).splitlines(), "", ""]
        raise ToolchainError(_WHAT, why, hint, log=_text(done.stderr))
    return _HEAD + done.stdout + TAIL


def _names(btf: bytes) -> bytes:
    """Return the names of all types and members, where libbpf will look for them."""
    if len(btf) < _HEADER.size or btf[:2] != b"\x9f\xeb":  # of the other byte order it is no kernel's for us
        raise ToolchainError(_WHAT, "it is no BTF of this byte order")
    length, _, _, at, size = _HEADER.unpack_from(btf)[3:]
    return btf[length + at : length + at + size]


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")
