"""Programs in the entries of device and CPU maps: by name, read back as names, and refused where they do not fit."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pytest
import rights

import ebpf_magic as em
from ebpf_magic.errors import MapError, StoppedError, UsageError
from ebpf_magic.session import Session

pytestmark = [pytest.mark.live, pytest.mark.any_host, pytest.mark.needs("xdp")]
MAPS = """
struct { __uint(type, BPF_MAP_TYPE_DEVMAP_HASH); __uint(max_entries, 8); __type(key, u32);
    __type(value, struct bpf_devmap_val); } ports SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_CPUMAP); __uint(max_entries, 8); __uint(key_size, 4); __uint(value_size, 8); }
    cpus SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_DEVMAP); __uint(max_entries, 8); __type(key, u32); __type(value, u32); }
    plain SEC(".maps");
SEC("xdp") int send_on(struct xdp_md *ctx)
{
    return ctx->rx_queue_index ? bpf_redirect_map(&ports, 0, 0) + bpf_redirect_map(&plain, 0, 0)
                               : bpf_redirect_map(&cpus, 0, 0);
}
SEC("xdp/devmap") int at_port(struct xdp_md *ctx) { return XDP_PASS; }
SEC("xdp/cpumap") int at_cpu(struct xdp_md *ctx) { return XDP_PASS; }
"""


@pytest.fixture
def session() -> Iterator[Session]:
    made = em.run(MAPS, "redirects", on=rights.host_name(), attach=False, allow_change=True)
    assert isinstance(made, Session)
    yield made
    made.stop()


def ports(*programs: object) -> pd.DataFrame:
    return pd.DataFrame({"ifindex": [1] * len(programs), "program": list(programs)}, index=range(7, 7 + len(programs)))


def test_programs_go_in_by_name_and_come_back_so(session: Session) -> None:
    found = session.maps["ports"]
    found.update(ports("at_port", ""))
    read = found.df().sort_index()
    assert list(read.columns) == ["ifindex", "prog_id", "program"]
    assert read["program"].to_dict() == {7: "at_port", 8: ""}
    assert read["ifindex"].to_dict() == {7: 1, 8: 1}
    assert read["prog_id"].ne(0).to_dict() == {7: True, 8: False}
    found.delete([7, 8])
    found.update(read)
    assert found.df().sort_index().equals(read)
    session.maps["cpus"].update(pd.DataFrame({"queue_size": [64], "program": ["at_cpu"]}, index=[0]))
    assert session.maps["cpus"].df()[["queue_size", "program"]].values.tolist() == [[64, "at_cpu"]]


def test_without_a_column_of_programs_there_are_none(session: Session) -> None:
    session.maps["ports"].update(pd.DataFrame({"ifindex": [1]}, index=[3]))
    assert session.maps["ports"].df().loc[3, "program"] == ""
    session.maps["plain"].update(pd.DataFrame({"ifindex": [1]}, index=[3]))
    assert session.maps["plain"].df().loc[3].to_dict() == {"ifindex": 1}


@pytest.mark.parametrize(
    ("name", "frame", "error", "says"),
    [
        ("ports", ports("at_prt"), UsageError, r"program 'at_prt': no such program \(near: at_port"),
        ("ports", ports("at_port", "at_cpu"), UsageError, r'takes programs of SEC\("xdp/devmap"\), not program at_cpu'),
        ("ports", ports("send_on"), UsageError, r'takes programs of SEC\("xdp/devmap"\), not program send_on'),
        ("ports", ports(7), UsageError, "row 7: 7 in column program is no name"),
        ("ports", ports("at_port").assign(ifindex=999_999), MapError, "no interface of such a number"),
        ("ports", ports("at_port").assign(ifindex=-1), UsageError, "ifindex"),
        ("ports", pd.DataFrame({"ifindex": [1], "prog_id": [5]}, index=[7]), UsageError, "by its name, not by its id"),
        ("plain", ports("at_port"), UsageError, "program"),
    ],
)
def test_what_they_do_not_take(
    session: Session, name: str, frame: pd.DataFrame, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        session.maps[name].update(frame)
    assert 7 not in session.maps[name].df().index


def test_a_map_that_holds_programs_is_not_kept(session: Session) -> None:
    session.maps["ports"].update(ports("at_port"))
    again = em.run(MAPS, "redirects", on=rights.host_name(), attach=False, allow_change=True, keep_maps=True)
    assert isinstance(again, Session)
    assert again.maps["ports"].df().empty
    again.stop()
    with pytest.raises(StoppedError):
        again.maps["ports"].update(ports("at_port"))
