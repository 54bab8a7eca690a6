"""libbpf's own linker, run as a program of its own: a crash of it costs the notebook nothing.

``python -I -S linker.py OUTPUT INPUT...``; what libbpf says goes to stderr.
"""

from __future__ import annotations

import ctypes as C
import sys

NO_LIBBPF = 3  # exit status


def main(output: str, *inputs: str) -> int:
    """Link objects into one; the exit status."""
    try:
        libbpf = C.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        print(error, file=sys.stderr)
        return NO_LIBBPF
    libbpf.bpf_linker__new.restype = C.c_void_p
    libbpf.bpf_linker__new.argtypes = [C.c_char_p, C.c_void_p]
    libbpf.bpf_linker__add_file.argtypes = [C.c_void_p, C.c_char_p, C.c_void_p]
    libbpf.bpf_linker__finalize.argtypes = [C.c_void_p]
    linker = libbpf.bpf_linker__new(output.encode(), None)
    if not linker:
        return 1
    for path in inputs:
        if libbpf.bpf_linker__add_file(linker, path.encode(), None):
            return 1
    return int(libbpf.bpf_linker__finalize(linker) != 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
