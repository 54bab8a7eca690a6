"""Packets to a program and back: split into requests, put together again, verdicts by name."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ebpf_magic import packet_runs
from ebpf_magic.agent import packets as agent_packets
from ebpf_magic.data import packets
from ebpf_magic.errors import UsageError


def results(verdicts: list[int], out: list[bytes]) -> packets.Results:
    lengths = np.array(list(map(len, out)), np.uint32)
    numbers = np.array(verdicts, np.int64).astype(np.uint32)
    return packets.Results(numbers, np.arange(len(out), dtype=np.uint32), lengths, memoryview(b"".join(out)))


def test_a_list_becomes_a_frame_and_a_frame_stays_what_it_is() -> None:
    assert packets.table([b"a", b""], "w")["data"].tolist() == [b"a", b""]
    frame = pd.DataFrame({"data": [b"a"], "who": ["me"]}, index=[7])
    assert packets.table(frame, "w") is frame
    assert packets.table([], "w")["data"].tolist() == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pd.DataFrame({"dat": [b"a"]}), "the frame has no column 'data' with the packets' bytes\nIts columns: dat."),
        (pd.DataFrame({"data": ["a", b"b"]}), "a packet is bytes, not str"),
        ([b"a", None], "a packet is bytes, not NoneType"),
        ("abc", "a packet is bytes, not str"),
    ],
)
def test_what_are_no_packets(data: object, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        packets.table(data, "run program p")  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_requests_keep_to_both_bounds_and_lose_nothing() -> None:
    given = [bytes([number]) * (number % 7) for number in range(100)] + [b"x" * 50] + [b"y"]
    parts = list(packets.batches(given, 10, 20))
    assert b"".join(part.data for part in parts) == b"".join(given)
    assert np.concatenate([part.lengths for part in parts]).tolist() == list(map(len, given))
    assert all(len(part.lengths) <= 10 for part in parts)
    # One packet alone may be above the bound: the agent says so, and not we.
    assert [len(part.data) for part in parts if len(part.data) > 20] == [50]
    assert list(packets.batches([], 10, 20)) == []


def test_the_bounds_are_the_agents() -> None:
    assert (packet_runs.MAX_PACKETS, packet_runs.MAX_BYTES) == (agent_packets.MAX_PACKETS, agent_packets.MAX_BYTES)


def test_results_lie_beside_what_was_given() -> None:
    frame = pd.DataFrame({"data": [b"a", b"bb", b""], "who": ["x", "y", "z"]}, index=[5, 3, 9])
    found = packets.result_frame(frame, "xdp", [results([2, 1], [b"A", b"BBB"]), results([77], [b""])])
    assert found.index.tolist() == [5, 3, 9]
    assert found.columns.tolist() == ["data", "who", "verdict", "out", "duration_ns"]
    assert found["verdict"].tolist() == ["XDP_PASS", "XDP_DROP", 77]
    assert found["out"].tolist() == [b"A", b"BBB", b""]
    assert found["duration_ns"].tolist() == [0, 1, 0]
    assert (found["verdict"] == "XDP_DROP").sum() == 1
    assert frame.columns.tolist() == ["data", "who"]


def test_no_packets_give_no_rows() -> None:
    found = packets.result_frame(packets.table([], "w"), "tc", [])
    assert len(found) == 0
    assert found.columns.tolist() == ["data", "verdict", "out", "duration_ns"]


@pytest.mark.parametrize(
    ("kind", "values", "names"),
    [
        ("xdp", [0, 4, 5], ["XDP_ABORTED", "XDP_REDIRECT", 5]),
        ("tc", [-1, 0, 2, 7, -9], ["TC_ACT_UNSPEC", "TC_ACT_OK", "TC_ACT_SHOT", "TC_ACT_REDIRECT", -9]),
        ("netfilter", [1, 0], ["NF_ACCEPT", "NF_DROP"]),
        ("cgroup_skb", [1, 0], [1, 0]),
        ("socket", [4294967295], [4294967295]),
    ],
)
def test_verdicts_by_name(kind: str, values: list[int], names: list[object]) -> None:
    assert packets.named(np.array(values, np.int64).astype(np.uint32), kind).tolist() == names
