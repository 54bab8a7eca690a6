"""vmlinux.h, every type of the kernel as C, made from its BTF."""

from __future__ import annotations

import ctypes
import os

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


def vmlinux_h(btf: bytes) -> bytes:
    """Write a kernel's types as a C header, as bpftool does.

    Parameters
    ----------
    btf : bytes
        What /sys/kernel/btf/vmlinux holds.

    Raises
    ------
    ToolchainError
        When libbpf is missing or cannot read it.

    Requires
    --------
    libbpf 1.0 or later on this machine; no privilege.
    """
    if not btf:
        raise ToolchainError(_WHAT, "the kernel gave none", "It needs a kernel built with CONFIG_DEBUG_INFO_BTF=y.")
    libbpf = _libbpf()
    parsed = libbpf.btf__new(btf, len(btf))
    if not parsed:
        raise ToolchainError(_WHAT, f"libbpf cannot read it ({_errno()})", "A newer libbpf may: `apt install libbpf1`.")
    try:
        return _HEAD + _dump(libbpf, parsed) + TAIL
    finally:
        libbpf.btf__free(parsed)


def _dump(libbpf: ctypes.CDLL, parsed: int) -> bytes:
    """Write all types as C, into memory."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.open_memstream.restype = ctypes.c_void_p
    libc.fclose.argtypes = libc.free.argtypes = [ctypes.c_void_p]
    text, size = ctypes.c_void_p(), ctypes.c_size_t()
    stream = libc.open_memstream(ctypes.byref(text), ctypes.byref(size))
    if not stream:
        raise MemoryError
    # vfprintf has the very type btf_dump wants, (void *, const char *, va_list): no Python is called for each line.
    dump = libbpf.btf_dump__new(parsed, ctypes.cast(libc.vfprintf, ctypes.c_void_p), stream, None)
    try:
        if not dump:
            raise ToolchainError(_WHAT, f"libbpf cannot write it as C ({_errno()})")
        for type_id in range(1, libbpf.btf__type_cnt(parsed)):
            if libbpf.btf_dump__dump_type(dump, type_id):
                raise ToolchainError(_WHAT, f"libbpf cannot write type {type_id} as C ({_errno()})")
    finally:
        if dump:
            libbpf.btf_dump__free(dump)
        libc.fclose(stream)
        header = ctypes.string_at(text, size.value) if text.value else b""
        libc.free(text)
    return header


def _libbpf() -> ctypes.CDLL:
    try:
        libbpf = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise ToolchainError(_WHAT, f"libbpf is missing ({error})", "Install it: `apt install libbpf-dev`.") from None
    pointer, number = ctypes.c_void_p, ctypes.c_uint32
    signatures = {
        "btf__new": (pointer, [ctypes.c_char_p, number]),
        "btf__free": (None, [pointer]),
        "btf__type_cnt": (number, [pointer]),
        "btf_dump__new": (pointer, [pointer, pointer, pointer, pointer]),
        "btf_dump__free": (None, [pointer]),
        "btf_dump__dump_type": (ctypes.c_int, [pointer, number]),
        "libbpf_set_print": (pointer, [pointer]),
    }
    for name, (result, arguments) in signatures.items():
        getattr(libbpf, name).restype = result
        getattr(libbpf, name).argtypes = arguments
    libbpf.libbpf_set_print(None)  # what is wrong is raised, not written to the notebook's stderr
    return libbpf


def _errno() -> str:
    return os.strerror(ctypes.get_errno())
