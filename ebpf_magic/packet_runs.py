"""Many packets through one program, by as few round trips as their number allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ebpf_magic.data import packets
from ebpf_magic.errors import UnsupportedError

if TYPE_CHECKING:
    import pandas as pd

    from ebpf_magic.hosts.base import AgentHost

# What the agent takes in one request; while it works on one, it does nothing else.
MAX_PACKETS, MAX_BYTES = 1 << 14, 16 << 20


# Their BPF_PROG_RUN takes no packet, and says so as it refuses a damaged one, or runs something else.
_WITHOUT_PACKETS = frozenset("syscall raw_tp tp_btf fentry fexit fmod_ret lsm iter sk_lookup struct_ops".split())


def run(
    host: AgentHost, token: str, program: str, kind: str, data: pd.DataFrame | Sequence[bytes], repeat: int
) -> pd.DataFrame:
    """Run a session's program over all packets; see `Session.run`."""
    what = f"run program {program} over packets"
    if kind in _WITHOUT_PACKETS:
        raise UnsupportedError(
            what,
            f"{kind} programs see no packets",
            "xdp, tc, cgroup_skb, socket, flow_dissector and netfilter programs can be run so.",
        )
    frame = packets.table(data, what)
    results: list[packets.Results] = []
    done = 0
    for batch in packets.batches(frame["data"].tolist(), MAX_PACKETS, MAX_BYTES):
        *columns, out = host.run_packets(token, program, batch.lengths.tobytes(), batch.data, repeat, done)
        verdicts, durations, lengths = (np.frombuffer(column, np.uint32) for column in columns)
        results.append(packets.Results(verdicts, durations, lengths, out))
        done += len(batch.lengths)
    return packets.result_frame(frame, kind, results)
