"""libbpf.so.1 through ctypes: the functions the agent uses, and what libbpf prints, kept for the error message."""

from __future__ import annotations

import ctypes as C
import errno
import mmap
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# enum libbpf_errno, which strerror does not know.
OWN_ERRORS = {
    4000: "libelf cannot read it",
    4001: "it is no valid BPF object",
    4002: "its kernel version is not valid",
    4003: "its byte order is another",
    4004: "libbpf's own error",
    4005: "a relocation in it cannot be done",
    4007: "a program is refused by the verifier",
    4008: "a program is too large",
    4009: "a program is not of the right type",
}
PATHS = ("libbpf.so.1",)
_LINE_BYTES = 16384
_MAX_LINES = 2000
# A section that is there for its types alone; libbpf notes that it passes it over.
_OURS = ") .em.rows"

P = C.c_void_p


class OpenOpts(C.Structure):
    """struct bpf_object_open_opts, to its kernel log fields."""

    _fields_ = [
        ("sz", C.c_size_t),
        ("object_name", C.c_char_p),
        ("relaxed_maps", C.c_bool),
        ("pin_root_path", C.c_char_p),
        ("unused", C.c_uint32),
        ("kconfig", C.c_char_p),
        ("btf_custom_path", C.c_char_p),
        ("kernel_log_buf", P),
        ("kernel_log_size", C.c_size_t),
        ("kernel_log_level", C.c_uint32),
    ]


class UprobeOpts(C.Structure):
    """struct bpf_uprobe_opts."""

    _fields_ = [
        ("sz", C.c_size_t),
        ("ref_ctr_offset", C.c_size_t),
        ("bpf_cookie", C.c_uint64),
        ("retprobe", C.c_bool),
        ("func_name", C.c_char_p),
    ]


class KprobeOpts(C.Structure):
    """struct bpf_kprobe_opts, as far as libbpf 1.1 knows it."""

    _fields_ = [
        ("sz", C.c_size_t),
        ("bpf_cookie", C.c_uint64),
        ("offset", C.c_size_t),
        ("retprobe", C.c_bool),
    ]


class KsyscallOpts(C.Structure):
    """struct bpf_ksyscall_opts."""

    _fields_ = [
        ("sz", C.c_size_t),
        ("bpf_cookie", C.c_uint64),
        ("retprobe", C.c_bool),
    ]


class IterOpts(C.Structure):
    """struct bpf_iter_attach_opts."""

    _fields_ = [("sz", C.c_size_t), ("link_info", P), ("link_info_len", C.c_uint32)]


class TestRunOpts(C.Structure):
    """struct bpf_test_run_opts."""

    _fields_ = [
        ("sz", C.c_size_t),
        ("data_in", P),
        ("data_out", P),
        ("data_size_in", C.c_uint32),
        ("data_size_out", C.c_uint32),
        ("ctx_in", P),
        ("ctx_out", P),
        ("ctx_size_in", C.c_uint32),
        ("ctx_size_out", C.c_uint32),
        ("retval", C.c_uint32),
        ("repeat", C.c_int),
        ("duration", C.c_uint32),
        ("flags", C.c_uint32),
        ("cpu", C.c_uint32),
        ("batch_size", C.c_uint32),
    ]


class ProgLoadOpts(C.Structure):
    """struct bpf_prog_load_opts."""

    _fields_ = [
        ("sz", C.c_size_t),
        ("attempts", C.c_int),
        ("expected_attach_type", C.c_int),
        ("prog_btf_fd", C.c_uint32),
        ("prog_flags", C.c_uint32),
        ("prog_ifindex", C.c_uint32),
        ("kern_version", C.c_uint32),
        ("attach_btf_id", C.c_uint32),
        ("attach_prog_fd", C.c_uint32),
        ("attach_btf_obj_fd", C.c_uint32),
        ("fd_array", P),
        ("func_info", P),
        ("func_info_cnt", C.c_uint32),
        ("func_info_rec_size", C.c_uint32),
        ("line_info", P),
        ("line_info_cnt", C.c_uint32),
        ("line_info_rec_size", C.c_uint32),
        ("log_level", C.c_uint32),
        ("log_size", C.c_uint32),
        ("log_buf", P),
    ]


class TcHook(C.Structure):
    """struct bpf_tc_hook."""

    _fields_ = [("sz", C.c_size_t), ("ifindex", C.c_int), ("attach_point", C.c_int), ("parent", C.c_uint32)]


class TcOpts(C.Structure):
    """struct bpf_tc_opts."""

    _fields_ = [
        ("sz", C.c_size_t),
        ("prog_fd", C.c_int),
        ("flags", C.c_uint32),
        ("prog_id", C.c_uint32),
        ("handle", C.c_uint32),
        ("priority", C.c_uint32),
    ]


_PRINT = C.CFUNCTYPE(C.c_int, C.c_int, C.c_void_p, C.c_void_p)
_S, _I, _U32, _U64, _SZ = C.c_char_p, C.c_int, C.c_uint32, C.c_uint64, C.c_size_t
# name: (result, arguments)
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "libbpf_version_string": (_S, ()),
    "libbpf_set_print": (P, (_PRINT,)),
    "libbpf_find_vmlinux_btf_id": (_I, (_S, _I)),
    "libbpf_bpf_prog_type_str": (_S, (_I,)),
    "bpf_object__open_mem": (P, (P, _SZ, P)),
    "bpf_object__load": (_I, (P,)),
    "bpf_object__close": (None, (P,)),
    "bpf_object__next_program": (P, (P, P)),
    "bpf_object__next_map": (P, (P, P)),
    "bpf_program__name": (_S, (P,)),
    "bpf_program__section_name": (_S, (P,)),
    "bpf_program__type": (_I, (P,)),
    "bpf_program__expected_attach_type": (_I, (P,)),
    "bpf_program__set_type": (_I, (P, _I)),
    "bpf_program__set_expected_attach_type": (_I, (P, _I)),
    "bpf_program__set_flags": (_I, (P, _U32)),
    "bpf_program__flags": (_U32, (P,)),
    "bpf_program__autoload": (C.c_bool, (P,)),
    "bpf_program__set_autoload": (_I, (P, C.c_bool)),
    "bpf_program__set_attach_target": (_I, (P, _I, _S)),
    "bpf_program__fd": (_I, (P,)),
    "bpf_program__insn_cnt": (_SZ, (P,)),
    "bpf_program__attach": (P, (P,)),
    "bpf_program__attach_kprobe_opts": (P, (P, _S, P)),
    "bpf_program__attach_ksyscall": (P, (P, _S, P)),
    "bpf_program__attach_usdt": (P, (P, _I, _S, _S, _S, P)),
    "bpf_program__attach_tracepoint": (P, (P, _S, _S)),
    "bpf_program__attach_raw_tracepoint": (P, (P, _S)),
    "bpf_program__attach_uprobe_opts": (P, (P, _I, _S, _SZ, P)),
    "bpf_program__attach_perf_event": (P, (P, _I)),
    "btf__load_from_kernel_by_id": (P, (_U32,)),
    "btf__type_by_id": (P, (P, _U32)),
    "btf__name_by_offset": (_S, (P, _U32)),
    "btf__free": (None, (P,)),
    "bpf_program__attach_iter": (P, (P, P)),
    "bpf_map__name": (_S, (P,)),
    "bpf_map__type": (_I, (P,)),
    "bpf_map__fd": (_I, (P,)),
    "bpf_map__key_size": (_U32, (P,)),
    "bpf_map__value_size": (_U32, (P,)),
    "bpf_map__max_entries": (_U32, (P,)),
    "bpf_map__map_flags": (_U32, (P,)),
    "bpf_map__set_map_flags": (_I, (P, _U32)),
    "bpf_map__attach_struct_ops": (P, (P,)),
    "bpf_map__is_internal": (C.c_bool, (P,)),
    "bpf_map__pin_path": (_S, (P,)),
    "bpf_map__initial_value": (P, (P, C.POINTER(_SZ))),
    "bpf_map__reuse_fd": (_I, (P, _I)),
    "bpf_map__map_extra": (_U64, (P,)),
    "bpf_map__set_map_extra": (_I, (P, _U64)),
    "bpf_map__set_pin_path": (_I, (P, _S)),
    "bpf_link__fd": (_I, (P,)),
    "bpf_link__destroy": (_I, (P,)),
    "bpf_btf_load": (_I, (_S, _SZ, P)),
    "bpf_prog_load": (_I, (_I, _S, _S, P, _SZ, P)),
    "bpf_raw_tracepoint_open": (_I, (_S, _I)),
    "bpf_link_create": (_I, (_I, _I, _I, P)),
    "bpf_prog_test_run_opts": (_I, (_I, P)),
    "btf__load_vmlinux_btf": (P, ()),
    "btf__find_by_name_kind": (_I, (P, _S, _U32)),
    "bpf_tc_hook_create": (_I, (P,)),
    "bpf_tc_hook_destroy": (_I, (P,)),
    "bpf_tc_attach": (_I, (P, P)),
    "bpf_tc_detach": (_I, (P, P)),
}


class Library:
    """libbpf with typed functions as attributes; prints are kept per thread of work, see `printed`."""

    def __init__(self) -> None:
        self._dll = _open()
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(self._dll, name)
            function.restype, function.argtypes = result, list(arguments)
            setattr(self, name, function)
        self._lines: list[str] | None = None
        self._lock = threading.Lock()
        libc = C.CDLL(None)
        # va_list is passed as a pointer on x86_64 (array type) and arm64 (large struct by reference) alike.
        self._vsnprintf = libc.vsnprintf
        self._vsnprintf.argtypes = [C.c_void_p, C.c_size_t, C.c_void_p, C.c_void_p]
        self._on_print = _PRINT(self._print)  # held: libbpf keeps the bare pointer
        self.libbpf_set_print(self._on_print)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"libbpf function {name} is not declared")

    @property
    def version(self) -> str:
        """``1.1``."""
        return str(self.libbpf_version_string().decode()).lstrip("v")

    @contextmanager
    def printed(self) -> Iterator[list[str]]:
        """Collect the warnings and notes libbpf prints meanwhile."""
        lines: list[str] = []
        self._lines = lines
        try:
            yield lines
        finally:
            self._lines = None

    def _print(self, level: int, text_format: int, arguments: int) -> int:
        lines = self._lines
        if level > 1 or lines is None or len(lines) >= _MAX_LINES:  # 2 is debug: hundreds of lines a load
            return 0
        buffer = C.create_string_buffer(_LINE_BYTES)
        self._vsnprintf(buffer, _LINE_BYTES, text_format, arguments)
        text = buffer.value.decode(errors="replace").rstrip("\n")
        if _OURS in text:
            return 0
        with self._lock:
            lines.append(re.sub(r"^libbpf: ", "", text))
        return 0


def _open() -> C.CDLL:
    problems = []
    for path in PATHS:
        try:
            return C.CDLL(path, use_errno=True)
        except OSError as error:
            problems.append(str(error))
    raise OSError(errno.ENOENT, "; ".join(problems))


def address_of(buffer: memoryview) -> tuple[int, object]:
    """Address of writable memory, and what must be held while it is used."""
    hold = (C.c_char * buffer.nbytes).from_buffer(buffer)
    return C.addressof(hold), hold


def log_buffer(size: int) -> mmap.mmap:
    """Zeroed memory for a kernel log; only what is written costs anything."""
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def text_of(buffer: mmap.mmap) -> str:
    """Text of a log buffer, up to its NUL."""
    end = buffer.find(b"\0", 0)
    return buffer[: end if end >= 0 else len(buffer)].decode(errors="replace")
