"""The table view: which rows, in which order, said how."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ebpf_magic.views import TableView, units
from ebpf_magic.views.table import _top

EVIL = "<img src=x onerror=alert(1)>"


def frame(count: int = 5) -> pd.DataFrame:
    index = pd.MultiIndex.from_arrays([range(count), [f"c{n}" for n in range(count)]], names=["pid", "comm"])
    values = np.arange(count, dtype=np.uint64) * 1000
    return pd.DataFrame(
        {"value": values, "value_delta": np.arange(count), "value_per_s": np.arange(count) / 2, "time_ns": values * 7},
        index=index,
    )


def pids(view: TableView) -> list[int]:
    return [row[0] for row in view._state["rows"]]


def test_top_rows_by_the_first_number() -> None:
    view = TableView("t", top=3)
    view.update(frame())
    assert view._state["by"] == "value"
    assert view._state["rows"] == [
        [4, "c4", 4000, 4, 2.0, 28000],
        [3, "c3", 3000, 3, 1.5, 21000],
        [2, "c2", 2000, 2, 1.0, 14000],
    ]
    assert view._state["total"] == 5


def test_deltas_and_rates_stand_beside_their_total() -> None:
    shuffled = frame()[["time_ns", "value_per_s", "value", "value_delta"]]
    view = TableView("t")
    view.update(shuffled)
    assert [(c["name"], c["kind"], c["unit"]) for c in view._state["columns"]] == [
        ("pid", "key", ""),
        ("comm", "key", ""),
        ("time_ns", "total", "ns"),
        ("value", "total", ""),
        ("value_delta", "delta", ""),
        ("value_per_s", "rate", ""),
    ]


def test_by_another_column() -> None:
    view = TableView("t", by="comm", top=2)
    view.update(frame())
    assert pids(view) == [4, 3]


@pytest.mark.parametrize("by", ["value_per_s", "pid", "comm"])
def test_a_click_on_a_header_chooses_other_rows(by: str) -> None:
    view = TableView("t", top=2)
    view.update(frame())
    view._on_message({"sort": by, "ascending": True})
    assert (view._state["by"], view._state["ascending"], pids(view)) == (by, True, [0, 1])


@pytest.mark.parametrize("message", [{"sort": "no such"}, {"sort": 1}, {}])
def test_a_click_on_nothing_changes_nothing(message: dict[str, object]) -> None:
    view = TableView("t", top=2)
    view.update(frame())
    view._on_message(message)
    assert pids(view) == [4, 3]


def test_a_column_that_went_away_is_not_an_error() -> None:
    view = TableView("t", by="gone")
    view.update(frame())
    assert view._state["by"] == "value"


def test_equal_values_keep_the_order_of_the_frame() -> None:
    values = np.array([5, 1, 5, 3, 5], dtype=np.uint64)
    assert _top(values, 4, ascending=False).tolist() == [0, 2, 4, 3]
    assert _top(values, 5, ascending=True).tolist() == [1, 3, 0, 2, 4]


def test_order_is_that_of_a_full_sort() -> None:
    rng = np.random.default_rng(3)
    for values in (rng.integers(0, 2**64, 500, dtype=np.uint64), rng.normal(size=500), rng.integers(-9, 9, 500)):
        best = sorted(values.tolist(), reverse=True)
        assert values[_top(values, 20, ascending=False)].tolist() == best[:20]
        assert values[_top(values, 20, ascending=True)].tolist() == best[::-1][:20]


def test_what_is_not_a_number_comes_last_and_is_a_dash() -> None:
    view = TableView("t", by="value_per_s")
    data = pd.DataFrame({"value_per_s": [np.nan, 1.5]}, index=pd.Index([7, 8], name="pid"))
    view.update(data)
    assert view._state["rows"] == [[8, 1.5], [7, None]]
    assert view.text().splitlines()[-2].split() == ["7", units.UNKNOWN]


def test_an_integer_too_large_for_a_page_travels_as_digits() -> None:
    view = TableView("t")
    view.update(pd.DataFrame({"value": np.array([2**64 - 1, 2**53], dtype=np.uint64)}))
    assert [row[1] for row in view._state["rows"]] == [str(2**64 - 1), 2**53]


def test_bytes_are_hexadecimal() -> None:
    view = TableView("t")
    view.update(pd.DataFrame({"value": [1]}, index=pd.Index([b"\x01\xff"], name="key")))
    assert view._state["rows"] == [["01 ff", 1]]


def test_units_in_text() -> None:
    view = TableView("opens")
    data = pd.DataFrame({"run_ns": [1_532], "run_ns_delta": [0], "run_ns_per_s": [2.5e6], "size_bytes": [65536]})
    view.update(data, ["read in a batch"], ["3 updates refused"])
    assert view.text() == (
        "opens\n"
        "key   run_ns  Δ      per s  size_bytes\n"
        "0    1.53 µs  0  2.50 ms/s      64 KiB\n"
        "1 of 1 rows\n3 updates refused\nread in a batch"
    )


def test_html_escapes_keys_titles_and_notes() -> None:
    view = TableView(EVIL)
    view.update(pd.DataFrame({EVIL: [1], "v": ["x"]}, index=pd.Index([EVIL], name=EVIL)), [EVIL], [EVIL])
    page = view.html()
    assert "<img" not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") == 6


def test_the_bundle_needs_no_widget_no_script_and_no_style_element() -> None:
    view = TableView("t")
    view.update(frame())
    bundle = view.bundle()
    assert set(bundle) == {"text/plain", "text/html"}
    assert "<script" not in bundle["text/html"]
    assert "<style" not in bundle["text/html"]


def test_before_any_data_and_with_an_empty_frame() -> None:
    view = TableView("t")
    assert "no data yet" in view.text()
    view.update(frame(0))
    assert "0 of 0 rows" in view.text()
    assert "0 of 0 rows" in view.html()


def network_view() -> TableView:
    rows = {
        "peer": ["10.0.0.2", "10.0.0.10"], "port": np.array([443, 47113], np.uint16), "task": ["0xffff", "0x0"],
        "big": np.array([2**100, -(2**64)], object), "level": pd.Categorical(["HIGH", "7"]), "in.calls": [5, 6],
    }  # fmt: skip
    shown = pd.DataFrame(rows, index=pd.Index(["/a", "/b"], name="cgroup"))
    shown.attrs["shown"] = {"peer": "ipv4", "port": "port", "task": "hex", "cgroup": "cgroup"}
    view = TableView("t")
    view.update(shown)
    return view


def test_what_names_something_is_shown_as_it_is() -> None:
    view = network_view()
    kinds = {column["name"]: column["kind"] for column in view._state["columns"]}
    assert kinds == {
        "cgroup": "key", "peer": "text", "port": "text", "task": "text", "big": "total", "level": "text",
        "in.calls": "total",
    }  # fmt: skip
    assert view._state["by"] == "big"
    assert view._state["rows"] == [
        ["/a", "10.0.0.2", 443, "0xffff", str(2**100), "HIGH", 5],
        ["/b", "10.0.0.10", 47113, "0x0", str(-(2**64)), "7", 6],
    ]
    assert "47113" in view.text() and "47,113" not in view.text()


@pytest.mark.parametrize(("by", "first"), [("port", "/b"), ("big", "/a"), ("in.calls", "/b")])
def test_numbers_are_ordered_as_numbers_whatever_their_width(by: str, first: str) -> None:
    view = network_view()
    view._on_message({"sort": by, "ascending": False})
    assert view._state["rows"][0][0] == first


def test_bytes_have_an_order_whatever_they_are() -> None:
    keys = np.array([b"\xf4\x01", b"\x00\x00", b"\x7f\x00"], object)
    view = TableView("m", top=2)
    view.update(pd.DataFrame({"value": np.array([b"\xff"] * 3, object)}, index=pd.Index(keys, name="key")))
    assert "f4 01" in view.text()
    assert "2 of 3 rows" in view.text()
