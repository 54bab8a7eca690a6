"""Packets on their way to a program and back: many as one run of bytes, and what became of them as a frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from ebpf_magic.errors import UsageError

# What a kind's return values are called: enum xdp_action and sk_action, TC_ACT_*, NF_*, enum bpf_ret_code. A socket
# filter's is a number of bytes, and the kernel has no names for those of the others.
VERDICTS: Mapping[str, Mapping[int, str]] = {
    "xdp": dict(enumerate(("XDP_ABORTED", "XDP_DROP", "XDP_PASS", "XDP_TX", "XDP_REDIRECT"))),
    "tc": {
        -1: "TC_ACT_UNSPEC",
        **dict(
            enumerate(f"TC_ACT_{name}" for name in "OK RECLASSIFY SHOT PIPE STOLEN QUEUED REPEAT REDIRECT TRAP".split())
        ),
    },
    "netfilter": {0: "NF_DROP", 1: "NF_ACCEPT"},
    "flow_dissector": {0: "BPF_OK", 2: "BPF_DROP", 129: "BPF_FLOW_DISSECTOR_CONTINUE"},
    "sk_skb": {0: "SK_DROP", 1: "SK_PASS"},
}


class Batch(NamedTuple):
    """Packets of one request: their lengths (uint32), and all of their bytes."""

    lengths: npt.NDArray[np.uint32]
    data: bytes


class Results(NamedTuple):
    """What came back of a batch: return values, nanoseconds and lengths (uint32), and all bytes."""

    verdicts: npt.NDArray[np.uint32]
    durations_ns: npt.NDArray[np.uint32]
    lengths: npt.NDArray[np.uint32]
    data: memoryview


def table(packets: pd.DataFrame | Sequence[bytes], what: str) -> pd.DataFrame:
    """Give the packets as a frame with a column ``data``; raises UsageError where there are none or not bytes."""
    frame = packets if isinstance(packets, pd.DataFrame) else pd.DataFrame({"data": pd.Series(packets, dtype=object)})
    if "data" not in frame.columns:
        columns = ", ".join(map(str, frame.columns)) or "none"
        raise UsageError(what, "the frame has no column 'data' with the packets' bytes", f"Its columns: {columns}.")
    kinds = set(map(type, frame["data"]))
    if not kinds <= {bytes}:
        wrong = sorted(kind.__name__ for kind in kinds - {bytes})
        raise UsageError(what, f"a packet is bytes, not {' or '.join(wrong)}")
    return frame


def batches(packets: Sequence[bytes], max_packets: int, max_bytes: int) -> Iterator[Batch]:
    """Split packets into requests that keep to both bounds; one that is larger alone goes alone."""
    lengths = np.fromiter(map(len, packets), np.uint32, len(packets))
    ends = np.cumsum(lengths, dtype=np.int64)
    start = 0
    while start < len(packets):
        before = int(ends[start - 1]) if start else 0
        stop = int(np.searchsorted(ends, before + max_bytes, side="right"))
        stop = max(min(stop, start + max_packets), start + 1)
        yield Batch(lengths[start:stop], b"".join(packets[start:stop]))
        start = stop


def result_frame(frame: pd.DataFrame, kind: str, results: Sequence[Results]) -> pd.DataFrame:
    """Put beside the packets what became of them: ``verdict``, ``out``, ``duration_ns``."""
    empty = np.empty(0, np.uint32)
    out: list[bytes] = []
    for part in results:
        ends = np.cumsum(part.lengths, dtype=np.int64)
        pieces = map(slice, (ends - part.lengths).tolist(), ends.tolist())
        out += map(bytes(part.data).__getitem__, pieces)
    values = np.concatenate([empty, *(part.verdicts for part in results)])
    durations = np.concatenate([empty, *(part.durations_ns for part in results)])
    return frame.assign(
        verdict=pd.Series(named(values, kind), index=frame.index),
        out=pd.Series(out, index=frame.index, dtype=object),
        duration_ns=pd.Series(durations.astype(np.int64), index=frame.index),
    )


def named(values: npt.NDArray[np.uint32], kind: str) -> pd.Categorical:
    """Return values by name, those without one by number."""
    names = VERDICTS.get(kind, {})
    found, codes = np.unique(values.view(np.int32) if -1 in names else values, return_inverse=True)
    unknown: list[Any] = [number for number in found.tolist() if number not in names]
    place = {number: index for index, number in enumerate([*names, *unknown])}
    dtype: pd.CategoricalDtype[Any] = pd.CategoricalDtype([*names.values(), *unknown])
    places = np.array([place[number] for number in found.tolist()], np.int64)
    return pd.Categorical.from_codes(places[codes], dtype=dtype)
