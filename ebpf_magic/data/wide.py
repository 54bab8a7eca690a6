"""Integers that NumPy has no dtype for: bit fields, and those of more than 64 bits.

They lie in the dtype of a row as the bytes they touch, and are taken out and put back for all rows at once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_WORD = 64
_MASK = (1 << _WORD) - 1


class Bits(NamedTuple):
    """Where in its bytes an integer lies: `width` bits from bit `shift` of the first byte; `size` is its type's."""

    shift: int
    width: int
    signed: bool
    size: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """What it becomes: the integer of its type's width, Python integers when that is above 8 bytes."""
        return np.dtype(f"<{'i' if self.signed else 'u'}{self.size}") if self.size <= 8 else np.dtype(object)

    @property
    def touched_bytes(self) -> int:
        """How many bytes it has a bit in."""
        return -(-(self.shift + self.width) // 8)

    @property
    def limits(self) -> tuple[int, int]:
        """The lowest and the highest value it can have."""
        if self.signed:
            return -(1 << (self.width - 1)), (1 << (self.width - 1)) - 1
        return 0, (1 << self.width) - 1


def take(raw: Array, bits: Bits) -> Array:
    """Return the integers that lie in an array of raw bytes, in its shape."""
    words = _words(raw, bits)
    if bits.size > 8:
        return _take_objects(words, bits)
    found = words[..., 0] >> np.uint64(bits.shift)
    if bits.shift + bits.width > _WORD:
        found |= words[..., 1] << np.uint64(_WORD - bits.shift)
    spare = np.uint64(_WORD - bits.width)
    found <<= spare
    return (found.view(np.int64) >> np.int64(spare) if bits.signed else found >> spare).astype(bits.dtype)


def put(rows: Array, at: int, numbers: Array, bits: Bits) -> None:
    """Put integers into rows of bytes, shape (rows, bytes), from byte `at`; the bits beside them stay as they are."""
    size = bits.touched_bytes
    words = np.zeros((len(rows), -(-size // 8)), np.uint64)
    if bits.size > 8:
        for number in range(words.shape[1]):
            part = (((numbers & ((1 << bits.width) - 1)) << bits.shift) >> (_WORD * number)) & _MASK
            words[:, number] = part.astype(np.uint64)
    else:
        plain = numbers.astype(np.uint64) & np.uint64((1 << bits.width) - 1)
        words[:, 0] = plain << np.uint64(bits.shift)
        if bits.shift + bits.width > _WORD:
            words[:, 1] = plain >> np.uint64(_WORD - bits.shift)
    mask = ((1 << bits.width) - 1) << bits.shift
    rows[:, at : at + size] &= ~np.frombuffer(mask.to_bytes(size, "little"), np.uint8)
    rows[:, at : at + size] |= words.astype("<u8").view(np.uint8)[:, :size]


def wrapped(numbers: Array, bits: Bits) -> Array:
    """Bring sums of Python integers back into the range of their type, as the kernel's would be."""
    low, _ = bits.limits
    found: Array = ((numbers - low) & ((1 << bits.width) - 1)) + low
    return found


def _words(raw: Array, bits: Bits) -> npt.NDArray[np.uint64]:
    """Return the bytes as little-endian words, filled up with zero, in a last dimension."""
    size = raw.dtype.itemsize
    filled = np.zeros((*raw.shape, -(-size // 8) * 8), np.uint8)
    filled[..., :size] = np.ascontiguousarray(raw).view(np.uint8).reshape(*raw.shape, size)
    return filled.view("<u8").astype(np.uint64, copy=False)


def _take_objects(words: npt.NDArray[np.uint64], bits: Bits) -> Array:
    found: Array = np.zeros(words.shape[:-1], object)
    for number in range(words.shape[-1]):
        found = found + (words[..., number].astype(object) << (_WORD * number))
    found = (found >> bits.shift) & ((1 << bits.width) - 1)
    return wrapped(found, bits) if bits.signed else found
