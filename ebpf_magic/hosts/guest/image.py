"""The kernel as QEMU starts it soonest: already unpacked.

A distribution's image unpacks itself, which takes an emulated processor seven seconds for an xz one. Unpacked here,
once, it is started by its PVH entry point.

Source: Documentation/arch/x86/boot.rst ("Details of Header Fields", payload_offset) and
include/xen/interface/elfnote.h (XEN_ELFNOTE_PHYS32_ENTRY) of the kernel.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from pathlib import Path

from ebpf_magic import cache
from ebpf_magic.errors import NoHostError
from ebpf_magic.kernels import Kernel
from ebpf_magic.kernels.modules import unpack_zstd

_SETUP_SECTORS, _MAGIC, _PAYLOAD = 0x1F1, 0x202, 0x248
_PHYS32_ENTRY = 18
_NOTE_SEGMENT = 4
_ELF_HEADER_BYTES = 64
_MAX_BYTES = 1 << 30


def fastest(kernel: Kernel) -> Path:
    """Return the file to start a kernel from: unpacked in the cache, or its image where that cannot be.

    Raises
    ------
    NoHostError
        The image cannot be read.
    """
    try:
        about = kernel.image.stat()
        key = cache.digest(str(kernel.image.resolve()), f"{about.st_size} {about.st_mtime_ns}")
        folder = cache.folder("kernels")
        if folder is None:
            return kernel.image
        if (folder / key).is_file():
            cache.touch(folder / key)
            return folder / key
        unpacked = unpack(kernel.image.read_bytes())
    except OSError as error:
        raise NoHostError(
            f"boot kernel {kernel.release}", f"{kernel.image} cannot be read: {error.strerror}", errno=error.errno
        ) from error
    if unpacked is None:
        return kernel.image
    return cache.put_file("kernels", key, unpacked) or kernel.image


def unpack(image: bytes) -> bytes | None:
    """Return the ELF file within a bzImage, if it can be started by itself; None where it cannot."""
    if image[_MAGIC : _MAGIC + 4] != b"HdrS" or len(image) < _PAYLOAD + 8:
        return None
    offset, length = struct.unpack_from("<II", image, _PAYLOAD)
    start = ((image[_SETUP_SECTORS] or 4) + 1) * 512 + offset
    payload = image[start : start + length]
    try:
        unpacked = _unpack(payload)
    except (ValueError, OSError, EOFError, lzma.LZMAError, zlib.error):  # its own code can still unpack it
        return None
    return unpacked if unpacked is not None and _starts_by_itself(unpacked) else None


def _unpack(payload: bytes) -> bytes | None:
    if payload.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(payload)
    if payload.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(31).decompress(payload)
    if payload.startswith(b"\x5d\0\0"):
        return lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(payload)
    if payload.startswith(b"BZh"):
        return bz2.BZ2Decompressor().decompress(payload)
    if payload.startswith(b"\x28\xb5\x2f\xfd"):
        size = int.from_bytes(payload[-4:], "little")  # size_append of scripts/Makefile.lib
        return unpack_zstd(payload[:-4], size) if size <= _MAX_BYTES else None
    return None


def _starts_by_itself(elf: bytes) -> bool:
    """Whether an ELF file has the note with the PVH entry point (CONFIG_PVH)."""
    if elf[:6] != b"\x7fELF\x02\x01" or len(elf) < _ELF_HEADER_BYTES:
        return False
    table, size, count = struct.unpack_from("<32xQ14xHH", elf)
    for number in range(count):
        at = table + number * size
        if at + 40 > len(elf):
            return False
        kind, offset, length = struct.unpack_from("<I4xQ16xQ", elf, at)
        if kind == _NOTE_SEGMENT and _has_entry(elf[offset : offset + length]):
            return True
    return False


def _has_entry(notes: bytes) -> bool:
    at = 0
    while at + 12 <= len(notes):
        name, content, kind = struct.unpack_from("<III", notes, at)
        if kind == _PHYS32_ENTRY and notes[at + 12 : at + 12 + name] == b"Xen\0":
            return True
        at += 12 + (name + 3) // 4 * 4 + (content + 3) // 4 * 4
    return False
