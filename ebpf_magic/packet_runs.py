"""Many packets through one program, by as few round trips as their number allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ebpf_magic.data import packets

if TYPE_CHECKING:
    import pandas as pd

    from ebpf_magic.hosts.base import AgentHost

# What the agent takes in one request; while it works on one, it does nothing else.
MAX_PACKETS, MAX_BYTES = 1 << 14, 16 << 20


def run(
    host: AgentHost, token: str, program: str, kind: str, data: pd.DataFrame | Sequence[bytes], repeat: int
) -> pd.DataFrame:
    """Run a session's program over all packets; see `Session.run`."""
    frame = packets.table(data, f"run program {program} over packets")
    results: list[packets.Results] = []
    done = 0
    for batch in packets.batches(frame["data"].tolist(), MAX_PACKETS, MAX_BYTES):
        *columns, out = host.run_packets(token, program, batch.lengths.tobytes(), batch.data, repeat, done)
        verdicts, durations, lengths = (np.frombuffer(column, np.uint32) for column in columns)
        results.append(packets.Results(verdicts, durations, lengths, out))
        done += len(batch.lengths)
    return packets.result_frame(frame, kind, results)
