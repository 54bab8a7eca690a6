"""Bit fields as keys; a union, 128 bits, enums, flags, arrays, a pointer and text as values: 100 opens."""

SHOWS = "types: bits, unions, 128 bits"
NEEDS = ("tracepoint",)
OPTIONS = {}


def prove(session, sh):
    sh("ebpf-magic workload file --count 100")
    frame = session.maps["by_bits"].df()
    assert frame.index.names == ["round", "below", "turn", "across"]
    assert frame["value"].to_dict() == {
        (number % 5, -(number % 5), ("EVEN", "ODD")[number % 2], 0x8001): 10 for number in range(10)
    }
    last = session.maps["last"].df()
    assert last.attrs["unions"] == {"as": ["as.number", "as.low", "as.high"]}
    row = last.loc[0].to_dict()
    assert row.pop("task").startswith("0xffff")
    assert row.pop("wide") in ("HUGE", str(0x1234567890))  # clang 14 knows only the lower half of an enumerator
    assert row == {
        "inner.calls": 100, "inner.least": -7, "big": -100 * (2**100 + 1), "as.number": 0x20001, "as.low": 1,
        "as.high": 2, "seen": True, "grid[0][0]": 0, "grid[0][1]": 0, "grid[1][0]": 9, "grid[1][1]": 0, "text": "café",
    }  # fmt: skip
    before = session.maps["last"].sample()
    session.maps["last"].update(last)
    assert bytes(session.maps["last"].sample().values) == bytes(before.values), (
        "what is shown is written back unchanged"
    )
    assert session.maps["by_bits"].delete([(0, 0, "EVEN", 0x8001)]) == 1
    return "100 opens in 10 keys of bit fields"
