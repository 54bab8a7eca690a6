"""Write a kernel's BTF (standard input) as C to standard output, by libbpf; run as a program of its own.

The BTF may come from a guest, and what libbpf does with bytes that were made to harm it ends this process and no other.
On failure, standard error has the cause in its first line and what to do in its second. Standard library alone.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys

_MOST_BYTES = 4 << 30  # a kernel's takes a hundredth of it


def main() -> int:
    """Write all types as C."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES if hard == resource.RLIM_INFINITY else hard, hard))
    btf = sys.stdin.buffer.read()
    try:
        libbpf = _libbpf()
    except OSError as error:
        return _failed(f"libbpf is missing ({error})", "Install it: `apt install libbpf-dev`.")
    parsed = libbpf.btf__new(btf, len(btf))
    if not parsed:
        return _failed(f"libbpf cannot read it ({_errno()})", "A newer libbpf may: `apt install libbpf1`.")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fflush.argtypes = [ctypes.c_void_p]
    out = ctypes.c_void_p.in_dll(libc, "stdout")
    # vfprintf has the very type btf_dump wants, (void *, const char *, va_list): no Python is called for each line.
    dump = libbpf.btf_dump__new(parsed, ctypes.cast(libc.vfprintf, ctypes.c_void_p), out, None)
    if not dump:
        return _failed(f"libbpf cannot write it as C ({_errno()})")
    for type_id in range(1, libbpf.btf__type_cnt(parsed)):
        if libbpf.btf_dump__dump_type(dump, type_id):
            return _failed(f"libbpf cannot write type {type_id} as C ({_errno()})")
    return _failed(f"it cannot be written ({_errno()})") if libc.fflush(out) else 0


def _libbpf() -> ctypes.CDLL:
    libbpf = ctypes.CDLL("libbpf.so.1", use_errno=True)
    pointer, number = ctypes.c_void_p, ctypes.c_uint32
    signatures = {
        "btf__new": (pointer, [ctypes.c_char_p, number]),
        "btf__type_cnt": (number, [pointer]),
        "btf_dump__new": (pointer, [pointer, pointer, pointer, pointer]),
        "btf_dump__dump_type": (ctypes.c_int, [pointer, number]),
        "libbpf_set_print": (pointer, [pointer]),
    }
    for name, (result, arguments) in signatures.items():
        getattr(libbpf, name).restype = result
        getattr(libbpf, name).argtypes = arguments
    libbpf.libbpf_set_print(None)  # what is wrong is in the two lines alone
    return libbpf


def _errno() -> str:
    return os.strerror(ctypes.get_errno())


def _failed(why: str, hint: str = "") -> int:
    print(why, hint, sep="\n", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
