"""Programs of the network and of cgroups: targets that cannot be, what the kernel refuses, and what goes away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import rights
from network import SOCKMAP, as_root, cgroup_root, congestion, filters, known_congestion_controls, returning, wire
from objects import compile_object, empty, eventually

import ebpf_magic as em
from ebpf_magic.errors import AttachError, EbpfMagicError, LoadError, UnsupportedError
from ebpf_magic.hosts.base import AgentHost
from ebpf_magic.session import Session

pytestmark = [pytest.mark.live, pytest.mark.any_host]


def attach(host: AgentHost, data: bytes, target: str | None, session: str = "s") -> str:
    """Load and attach; the target as the agent says it."""
    host.load(data, session=session, name="test", allow_change=True)
    try:
        links = host.attach(session, {} if target is None else {"probe": target})["links"]
    except EbpfMagicError:
        host.close_session(session)
        raise
    return str(links[0]["target"])


@pytest.mark.parametrize(
    ("section", "target", "message"),
    [
        ("xdp", None, "it needs a target\nName one: --attach probe=xdp:eth0."),
        ("xdp", "xdp:loo", "attach xdp loo: no such interface: loo (near: lo)\nInterfaces: lo"),
        ("xdp", "tc:lo:ingress", "xdp programs are not attached to a tc\nSuch as --attach probe=xdp:eth0."),
        ("tc", None, "Name one: --attach probe=tc:eth0:ingress."),
        ("tc", "lo", "it is written INTERFACE:ingress or INTERFACE:egress"),
        ("tc", "lo:sideways", "it is written INTERFACE:ingress or INTERFACE:egress"),
        ("tc", "tc:loo:ingress", "attach tc loo:ingress: no such interface: loo (near: lo)"),
        ("tc", "lo:ingress:70000", "a priority is 1 to 65,535, not 70000"),
        ("tc/ingress", "lo:egress", 'its section says ingress: SEC("tc/ingress")'),
        ("tc", "cgroup:/", "tc programs are not attached to a cgroup"),
        ("cgroup_skb/egress", None, "Name one: --attach probe=cgroup:/user.slice."),
        ("cgroup_skb/egress", "cgroup:/no/such", "attach cgroup_skb /no/such: no such cgroup below /sys/fs/cgroup"),
        ("cgroup_skb/egress", "/etc", "/etc is no cgroup of version 2; those are below /sys/fs/cgroup"),
        ("cgroup_skb/egress", "../..", "no such cgroup below"),
        ("cgroup_skb/egress", "xdp:lo", "cgroup_skb programs are not attached to a xdp"),
        ("cgroup/skb", "/", 'Write SEC("cgroup_skb/ingress") or SEC("cgroup_skb/egress").'),
        ("sk_lookup", "netns:no-such", "no such network namespace: /run/netns/no-such"),
        ("sk_lookup", "/etc/passwd", "/etc/passwd is no network namespace"),
        ("sk_lookup", "map:m", "sk_lookup programs are not attached to a map\nSuch as --attach probe=netns:NAME."),
        ("socket", "socket:loo", "attach socket loo: no such interface: loo (near: lo)"),
        ("sk_reuseport", "port:udp", "it is written udp/PORT or tcp/PORT"),
        ("sk_reuseport", "udp/1", "no socket is bound to udp/1\nOpen the sockets before the cell runs."),
        ("sk_skb/stream_verdict", None, "Name one: --attach probe=map:NAME."),
        ("sk_skb/stream_verdict", "map:m", "the cell has no such map\nMaps of sockets: none."),
    ],
)
def test_targets_that_cannot_be(agent_host: AgentHost, section: str, target: str | None, message: str) -> None:
    with pytest.raises(AttachError) as caught:
        attach(agent_host, empty(section), target)
    assert message in str(caught.value)
    assert caught.value.program == "probe"


@pytest.mark.needs("netfilter")
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("netfilter:ipv5:local_in", "'ipv5' is none of ipv4, ipv6 (near: ipv6, ipv4)"),
        ("ipv4:local_inn", "(near: local_in"),
        ("ipv4:local_in:soon", "a priority is a number of 32 bits, not 'soon'"),
        ("ipv4:local_in:-2147483648", "the kernel keeps priority -2147483648 for itself"),
    ],
)
def test_hooks_of_the_packet_filter_that_cannot_be(agent_host: AgentHost, target: str, message: str) -> None:
    with pytest.raises(AttachError) as caught:
        attach(agent_host, returning("netfilter", 1), target)
    assert message in str(caught.value)


@pytest.mark.needs("netfilter")
def test_a_priority_is_for_one_program(agent_host: AgentHost) -> None:
    assert attach(agent_host, returning("netfilter", 1), "ipv4:local_in:40120") == "netfilter:ipv4:local_in:40120"
    with pytest.raises(AttachError, match="another program has priority 40120 at this hook: ipv4:local_in:1"):
        attach(agent_host, returning("netfilter", 1), "ipv4:local_in:40120", "other")


@pytest.mark.needs("cgroup_skb")
def test_a_cgroup_is_named_by_any_of_its_paths(agent_host: AgentHost) -> None:
    root = cgroup_root()
    as_root(f"mkdir -p {root}/em-test/inner")
    try:
        for target in (f"cgroup:{root}/em-test/inner", "cgroup:/em-test/inner", "em-test/inner", "em-test/inner/"):
            attach(agent_host, returning("cgroup_skb/egress", 1), target)
            agent_host.close_session("s")
        with pytest.raises(AttachError) as caught:
            attach(agent_host, returning("cgroup_skb/egress", 1), "em-test/iner")
        assert caught.value.near == ["em-test/inner"]
    finally:
        as_root(f"rmdir {root}/em-test/inner {root}/em-test")


@pytest.mark.needs("cgroup_skb")
def test_a_cgroup_below_one_that_lets_none_be_added(agent_host: AgentHost) -> None:
    """BPF_PROG_ATTACH without a flag: nobody may attach anything of that kind there or below."""
    root = cgroup_root()
    tool = "/usr/sbin/bpftool"
    if not as_root(f"ls {tool} 2>/dev/null || true").strip():
        pytest.skip("bpftool is not installed")
    as_root(f"mkdir -p {root}/em-alone/inner")
    try:
        loaded = agent_host.load(returning("cgroup_skb/egress", 1), session="s", name="test", allow_change=True)
        as_root(f"{tool} cgroup attach {root}/em-alone egress id {loaded.programs[0]['id']}")
        with pytest.raises(AttachError, match="lets none be added\n`bpftool cgroup tree` shows it"):
            attach(agent_host, returning("cgroup_skb/egress", 1), "em-alone/inner", "other")
    finally:
        as_root(f"rmdir {root}/em-alone/inner {root}/em-alone")


@pytest.mark.needs("xdp")
def test_an_interface_takes_one_xdp_program(agent_host: AgentHost) -> None:
    with wire("em-x"):
        assert attach(agent_host, returning("xdp", 2), "xdp:em-x0") == "xdp:em-x0"
        with pytest.raises(AttachError, match="another XDP program is attached to this interface"):
            attach(agent_host, returning("xdp", 2), "em-x0", "other")
        agent_host.close_session("s")
        attach(agent_host, returning("xdp", 2), "em-x0", "other")


@pytest.mark.needs("xdp")
def test_where_the_driver_refuses_xdp_runs_in_the_generic_mode_and_says_so(agent_host: AgentHost) -> None:
    with wire("em-g"):
        as_root("ip link set em-g0 mtu 9000 && ip link set em-g1 mtu 9000")  # more than veth takes for its own XDP
        attach(agent_host, returning("xdp", 2), "em-g0")
        (note,) = agent_host.status()["sessions"]["s"]["warnings"]
        assert note.startswith("probe runs on em-g0 in XDP's generic mode, which is slower: the driver refused it")
        assert "xdpgeneric" in as_root("ip link show em-g0")


@pytest.mark.needs("flow_dissector")
def test_a_namespace_takes_one_flow_dissector(agent_host: AgentHost) -> None:
    as_root("ip netns add em-test-flows")
    try:
        data = returning("flow_dissector", 129)
        assert attach(agent_host, data, "em-test-flows") == "netns:em-test-flows"
        with pytest.raises(AttachError, match=r"it takes one only|excludes others"):
            attach(agent_host, data, "/run/netns/em-test-flows", "other")
        with pytest.raises(AttachError) as caught:
            attach(agent_host, data, "em-test-flow", "other")
        assert caught.value.near == ["em-test-flows"]
    finally:
        as_root("ip netns del em-test-flows")


@pytest.mark.needs("sk_msg")
def test_a_program_on_a_map_that_cannot_be(agent_host: AgentHost) -> None:
    data = compile_object(SOCKMAP)
    with pytest.raises(AttachError) as caught:
        attach(agent_host, data, "map:socket")
    assert caught.value.near == ["sockets"]
    assert "the cell has no such map" in str(caught.value)
    with pytest.raises(AttachError, match="map counts is a hash, and not a sockmap or sockhash"):
        attach(agent_host, data, "map:counts")
    assert attach(agent_host, data, "map:sockets") == "map:sockets"


@pytest.mark.needs("tc")
def test_a_classic_filter_goes_and_its_qdisc_with_the_last(agent_host: AgentHost) -> None:
    with wire("em-c"):
        attach(agent_host, returning("tc", 0), "tc:em-c0:ingress:7")
        attach(agent_host, returning("tc", 0), "em-c0:egress:8", "other")
        assert filters("em-c0").count("pref") == 4
        agent_host.detach("s")
        assert "pref 8" in filters("em-c0") and "pref 7" not in filters("em-c0")
        agent_host.detach("other")
        assert filters("em-c0") == ""


@pytest.mark.needs("tc")
def test_what_others_made_stays(agent_host: AgentHost) -> None:
    foreign = "action ok"
    with wire("em-q"):
        as_root("tc qdisc add dev em-q0 clsact")
        attach(agent_host, returning("tc", 0), "em-q0:ingress:7")
        agent_host.detach("s")
        assert "clsact" in filters("em-q0")  # theirs
        as_root("tc qdisc del dev em-q0 clsact")
        attach(agent_host, returning("tc", 0), "em-q0:ingress:7", "other")
        as_root(f"tc filter add dev em-q0 egress pref 9 bpf da bytecode '1,6 0 0 0,' {foreign} 2>/dev/null || "
                "tc filter add dev em-q0 egress pref 9 bpf da bytecode '1,6 0 0 0,'")  # fmt: skip
        agent_host.detach("other")
        assert "pref 9" in filters("em-q0") and "pref 7" not in filters("em-q0")


@pytest.mark.needs("xdp", "tc", "socket")
@pytest.mark.parametrize(
    ("section", "target", "value"),
    [
        ("xdp", "xdp:em-w0", 2),
        ("tc", "tc:em-w0:ingress", 0),
        ("tc", "tc:em-w0:egress:5", 0),
        ("socket", "socket:em-w0", 0),
    ],
)
def test_an_interface_that_goes_away(section: str, target: str, value: int) -> None:
    source = f"""
        SEC("{section}") int probe(void *ctx) {{ return {value}; }}
        SEC("syscall") int other(void *ctx) {{ return 3; }}
    """
    with wire("em-w"):
        session = em.run(source, "goes", on=rights.host_name(), attach={"probe": target}, allow_change=True)
        assert isinstance(session, Session)
        assert session.warnings == []
        as_root("ip link del em-w0")
        assert eventually(lambda: session.warnings == [f"probe no longer runs: {target} is gone"])
    assert session.state == "running"
    assert session.run("other").retval == 3
    session.stop()
    assert session.state == "stopped"
    assert session.warnings == [f"probe no longer runs: {target} is gone"]


@pytest.mark.needs("cgroup_skb")
def test_a_cgroup_that_goes_away() -> None:
    root = cgroup_root()
    as_root(f"mkdir -p {root}/em-gone")
    source = 'SEC("cgroup_skb/egress") int probe(void *ctx) { return 1; }'
    options = {"attach": {"probe": "cgroup:em-gone"}, "allow_change": True}
    session = em.run(source, "goes", on=rights.host_name(), **options)
    assert isinstance(session, Session)
    as_root(f"rmdir {root}/em-gone")
    assert eventually(lambda: session.warnings == ["probe no longer runs: cgroup:em-gone is gone"])
    session.stop()


@pytest.mark.needs("struct_ops")
@pytest.mark.parametrize("section", [".struct_ops", ".struct_ops.link"])
def test_a_struct_ops_table_is_registered_and_taken_out(section: str) -> None:
    session = em.run(congestion(section), "ops", on=rights.host_name(), allow_change=True)
    assert isinstance(session, Session)
    assert [(link["program"], link["kind"]) for link in session.links] == [("em_test", "struct_ops")]
    assert "em_test" in known_congestion_controls()
    session.stop()
    assert eventually(lambda: "em_test" not in known_congestion_controls())


@pytest.mark.needs("struct_ops")
def test_a_struct_ops_table_that_the_kernel_refuses() -> None:
    on = rights.host_name()
    with pytest.raises(AttachError, match="attach struct_ops em_test: the kernel refused the table"):
        em.run(congestion(name=""), "ops", on=on, allow_change=True)
    with pytest.raises(LoadError, match=r"SEC.*: no table in \.struct_ops has this function") as caught:
        em.run(congestion(functions=".ssthresh = (void *)ssthresh,"), "ops", on=on, allow_change=True)
    assert caught.value.program in ("undo_cwnd", "cong_avoid")
    first = em.run(congestion(), "ops", on=on, allow_change=True)
    with pytest.raises(AttachError, match="attach struct_ops em_test: one of that name is registered already"):
        em.run(congestion(), "others", on=on, allow_change=True)
    assert "em_test" in known_congestion_controls()
    first.stop()


@pytest.mark.needs("struct_ops")
def test_tables_of_both_sections_are_too_many() -> None:
    table = 'SEC(".struct_ops.link") struct tcp_congestion_ops em_other = { .name = "em_other" };'
    with pytest.raises(UnsupportedError, match=r"it has both \.struct_ops and \.struct_ops\.link"):
        em.run(congestion() + table, "both", on=rights.host_name(), allow_change=True)


# Ends well when the first datagram that comes is the one that the program lets pass.
SERVE = """exec python3 -c '
import select, socket, sys
pair = [socket.socket(2, 2), socket.socket(2, 2)]
for one in pair:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind(("127.0.0.1", 40118))
ready, _, _ = select.select(pair, [], [], 30)
sys.exit(ready[0].recv(9) != b"right")
'"""
SEND = """python3 -c '
import socket
one = socket.socket(2, 2)
for text in [b"no"] * 12 + [b"right"]:
    one.sendto(text, ("127.0.0.1", 40118))
'"""


@pytest.mark.needs("sk_reuseport")
def test_a_port_that_sockets_share() -> None:
    """The program sends every datagram to no socket at all, but for those of length 5."""
    source = """
        ARRAY(asked, u64);
        SEC("sk_reuseport") int probe(struct sk_reuseport_md *ctx)
        {
            COUNT(asked, 0);
            return ctx->len == 8 + 5 ? SK_PASS : SK_DROP;
        }
    """
    on, port = rights.host_name(), 40118
    server = em.sh(SERVE, on=on, background=True)
    try:
        assert eventually(lambda: f":{port:04X} " in as_root("cat /proc/net/udp"), 30)
        session = em.run(source, "shared", on=on, attach={"probe": f"port:udp/{port}"}, allow_change=True)
        assert isinstance(session, Session)
        as_root(SEND)
        assert server.wait(30) == 0
        assert session.maps["asked"].df()["value"].tolist() == [13]
        session.stop()
    finally:
        server.kill()


@pytest.mark.needs("sk_reuseport")
def test_a_port_whose_program_is_replaced_has_the_new_one() -> None:
    """The kernel takes out whichever is there: the session that is replaced must not take out its successor's."""
    source = """
        ARRAY(asked, u64);
        SEC("sk_reuseport") int probe(struct sk_reuseport_md *ctx)
        {
            COUNT(asked, 0);
            return ctx->len == 8 + 5 ? SK_PASS : SK_DROP;
        }
    """
    on, target = rights.host_name(), "port:udp/40118"
    server = em.sh(SERVE, on=on, background=True)
    try:
        assert eventually(lambda: f":{40118:04X} " in as_root("cat /proc/net/udp"), 30)
        first = em.run(source, "first", on=on, attach={"probe": target}, allow_change=True)
        second = em.run(source, "second", on=on, attach={"probe": target}, allow_change=True)
        assert isinstance(first, Session) and isinstance(second, Session)
        first.stop()
        as_root(SEND)
        assert server.wait(30) == 0
        assert second.maps["asked"].df()["value"].tolist() == [13]
        second.stop()
    finally:
        server.kill()


def test_the_doctor_leaves_nothing(agent_host: AgentHost) -> None:
    root = cgroup_root()
    seen = f"ls {root} | grep ebpf_magic; ip -o link | wc -l; cat /proc/sys/net/ipv4/tcp_available_congestion_control"
    before = as_root(seen)
    names = {row["name"] for row in agent_host.features()}
    assert {"xdp programs", "tc programs", "cgroup_skb programs", "sk_msg programs", "struct_ops programs"} <= names
    assert as_root(seen) == before


@pytest.fixture(autouse=True)
def stop_all() -> Iterator[None]:
    yield
    em.stop_all()


@pytest.mark.needs("xdp", "tc", "flow_dissector", "struct_ops")
@pytest.mark.parametrize(
    ("source", "target", "takes_one"),
    [
        ('SEC("xdp") int probe(void *ctx) { return 2; }', "xdp:em-r0", True),
        ('SEC("flow_dissector") int probe(void *ctx) { return 129; }', "netns:em-test-again", True),
        (congestion(), None, True),
        ('SEC("tc") int probe(void *ctx) { return 0; }', "tc:em-r0:ingress", False),
    ],
    ids=["xdp", "flow_dissector", "struct_ops", "tc"],
)
def test_a_cell_that_runs_again_takes_its_own_place(source: str, target: str | None, takes_one: bool) -> None:
    options = {"on": rights.host_name(), "attach": {"probe": target} if target else None, "allow_change": True}
    as_root("ip netns add em-test-again")
    try:
        with wire("em-r"):
            first = em.run(source, "again", **options)  # type: ignore[arg-type]
            second = em.run(source, "again", **options)  # type: ignore[arg-type]
            assert isinstance(second, Session)
            assert (first.state, second.state) == ("stopped", "running")
            assert (second.gap_ns is not None) == takes_one
            if target:
                with pytest.raises(AttachError) if takes_one else nullcontext():
                    em.run(source, "stranger", **options)  # type: ignore[arg-type]
                assert second.state == "running"
            em.stop_all()
    finally:
        as_root("ip netns del em-test-again")


CGROUP_CALLS = ("bind", "connect", "sendmsg", "recvmsg", "getpeername", "getsockname")
CGROUP_SECTIONS = [
    "cgroup_skb/ingress", "cgroup_skb/egress", "cgroup/sock", "cgroup/sock_create", "cgroup/sock_release",
    "cgroup/post_bind4", "cgroup/post_bind6", "cgroup/dev", "cgroup/sysctl", "cgroup/getsockopt", "cgroup/setsockopt",
    "sockops", *(f"cgroup/{call}{version}" for call in CGROUP_CALLS for version in (4, 6)),
]  # fmt: skip


@pytest.mark.needs("cgroup_skb", "cgroup_sock", "cgroup_sock_addr", "cgroup_device", "cgroup_sysctl", "cgroup_sockopt")
def test_every_section_of_cgroups(agent_host: AgentHost) -> None:
    """All of them at once, in a cgroup without processes."""
    root = cgroup_root()
    programs = [f'SEC("{name}") int p{at}(void *ctx) {{ return 1; }}' for at, name in enumerate(CGROUP_SECTIONS)]
    as_root(f"mkdir -p {root}/em-all")
    try:
        agent_host.load(compile_object("\n".join(programs)), session="s", name="test", allow_change=True)
        links = agent_host.attach("s", {f"p{at}": "em-all" for at in range(len(programs))})["links"]
        assert {link["target"] for link in links} == {"cgroup:em-all"}
        assert len(links) == len(CGROUP_SECTIONS)
        agent_host.close_session("s")
    finally:
        as_root(f"rmdir {root}/em-all")


@pytest.mark.needs("sk_skb", "tc")
@pytest.mark.parametrize("section", ["sk_skb", "sk_skb/verdict", "sk_skb/stream_parser"])
def test_sections_of_streams(agent_host: AgentHost, section: str) -> None:
    source = SOCKMAP.partition('SEC("sk_msg")')[0] + f'SEC("{section}") int probe(void *ctx) {{ return 1; }}'
    assert attach(agent_host, compile_object(source), "sockets") == "map:sockets"


@pytest.mark.needs("tc")
@pytest.mark.parametrize(
    ("section", "target"),
    [
        ("tc", "tc:em-s0:egress"), ("classifier", "em-s0:ingress"), ("tc/ingress", "em-s0"),
        ("tc/egress", "em-s0:egress"), ("tcx/ingress", "tc:em-s0:ingress"), ("tcx/egress", "em-s0"),
        ("tcx/egress", "em-s0:4"),
    ],
)  # fmt: skip
def test_sections_of_traffic_control(agent_host: AgentHost, section: str, target: str) -> None:
    with wire("em-s"):
        attach(agent_host, empty(section), target)
        agent_host.close_session("s")
        assert filters("em-s0") == ""
