"""Program and map kinds: which there are, which are offered, and which can change what the machine does."""

from __future__ import annotations

from typing import NamedTuple

KPROBE, TRACEPOINT, PERF_EVENT, RAW_TRACEPOINT, TRACING, SYSCALL = 2, 5, 7, 17, 26, 31
SCHED_CLS, XDP, CGROUP_SKB, LSM = 3, 6, 8, 29
SOCKET_FILTER, CGROUP_SOCK, SOCK_OPS, SK_SKB, CGROUP_DEVICE, SK_MSG, CGROUP_SOCK_ADDR = 1, 9, 13, 14, 15, 16, 18
SK_REUSEPORT, FLOW_DISSECTOR, CGROUP_SYSCTL, CGROUP_SOCKOPT, STRUCT_OPS, SK_LOOKUP, NETFILTER = (
    21,
    22,
    23,
    25,
    27,
    30,
    32,
)
TRACE_RAW_TP, TRACE_FENTRY, TRACE_FEXIT, MODIFY_RETURN, LSM_MAC, TRACE_ITER = 23, 24, 25, 26, 27, 28
EXT = 28
TRACE_KPROBE_MULTI, TRACE_UPROBE_MULTI = 42, 48
SLEEPABLE = 1 << 4  # BPF_F_SLEEPABLE
ON_STREAM_PARSER, ON_STREAM_VERDICT, ON_MSG_VERDICT, ON_FLOW_DISSECTOR = 4, 5, 7, 17
XDP_DEVMAP, XDP_CPUMAP, ON_SK_LOOKUP, ON_XDP, ON_SKB_VERDICT, ON_REUSEPORT = 33, 35, 36, 37, 38, 39
LSM_CGROUP, ON_STRUCT_OPS, ON_NETFILTER, TCX_INGRESS, TCX_EGRESS = 43, 44, 45, 46, 47


class Kind(NamedTuple):
    """What there is to know of an attach kind."""

    sections: tuple[str, ...]  # how its section is written
    attacher: str = ""  # file and function of attach/; empty: nothing to attach
    needs: tuple[str, ...] = ("BPF", "PERFMON")  # capabilities; loading needs BPF, and PERFMON where it traces
    example: str = ""  # a target, for who named none; empty: it needs none
    prefix: str = ""  # what its targets may begin with; set for those that never stand in the section


_KPROBE_MULTI = ("BPF", "PERFMON", "DAC_READ_SEARCH", "SYSLOG")  # tracefs names the functions, kallsyms where they are
_UPROBE = ("BPF", "PERFMON", "SYS_ADMIN")  # perf_event_open wants it for uprobes
_NET = ("BPF", "NET_ADMIN")
_CGROUP = ("cgroups.in_cgroup", _NET, "cgroup:/user.slice", "cgroup")
_MAP = ("map:NAME", "map")
_ADDRESS_CALLS = ("bind", "connect", "sendmsg", "recvmsg", "getpeername", "getsockname")
KINDS = {
    "tracepoint": Kind(
        ("tracepoint/CATEGORY/NAME", "tp/CATEGORY/NAME"),
        "tracing.tracepoint",
        ("BPF", "PERFMON", "DAC_READ_SEARCH"),
        "syscalls/sys_enter_openat",
    ),
    "raw_tp": Kind(("raw_tp/NAME", "raw_tracepoint/NAME"), "tracing.raw_tracepoint", example="sys_enter"),
    "tp_btf": Kind(("tp_btf/NAME",), "tracing.btf_tracepoint", example="sys_enter"),
    "uprobe": Kind(("uprobe/PATH:FUNCTION",), "user.uprobe", _UPROBE, "libc.so.6:malloc"),
    "uretprobe": Kind(("uretprobe/PATH:FUNCTION",), "user.uprobe", _UPROBE, "libc.so.6:malloc"),
    "uprobe.multi": Kind(("uprobe.multi/PATH:PATTERN",), "patterns.uprobe_multi", example="libc.so.6:str*"),
    "uretprobe.multi": Kind(("uretprobe.multi/PATH:PATTERN",), "patterns.uprobe_multi", example="libc.so.6:str*"),
    "usdt": Kind(("usdt/PATH:PROVIDER:NAME",), "usdt.usdt", _UPROBE, "python3:python:gc__start"),
    "kprobe": Kind(("kprobe/FUNCTION",), "functions.kprobe", example="do_sys_openat2"),
    "kretprobe": Kind(("kretprobe/FUNCTION",), "functions.kprobe", example="do_sys_openat2"),
    "ksyscall": Kind(("ksyscall/NAME",), "functions.ksyscall", example="openat"),
    "kretsyscall": Kind(("kretsyscall/NAME",), "functions.ksyscall", example="openat"),
    "kprobe.multi": Kind(("kprobe.multi/PATTERN",), "patterns.kprobe_multi", _KPROBE_MULTI, "vfs_*"),
    "kretprobe.multi": Kind(("kretprobe.multi/PATTERN",), "patterns.kprobe_multi", _KPROBE_MULTI, "vfs_*"),
    "fentry": Kind(("fentry/FUNCTION", "fentry.s/FUNCTION"), "functions.by_function", example="vfs_read"),
    "fexit": Kind(("fexit/FUNCTION", "fexit.s/FUNCTION"), "functions.by_function", example="vfs_read"),
    "fmod_ret": Kind(
        ("fmod_ret/FUNCTION", "fmod_ret.s/FUNCTION"), "functions.by_function", example="security_task_getpgid"
    ),
    "lsm": Kind(("lsm/HOOK", "lsm.s/HOOK"), "functions.by_function", example="file_open"),
    "perf_event": Kind(("perf_event",), "tracing.perf_event", example="cpu-clock:99hz"),
    "iter": Kind(("iter/OBJECTS", "iter.s/OBJECTS"), "iters.iterator", example="task"),
    "syscall": Kind(("syscall",), needs=("BPF",)),
    "freplace": Kind(
        ("freplace/SESSION:FUNCTION",),
        "replacing.freplace",
        ("BPF", "PERFMON", "SYS_ADMIN"),
        example="SESSION:FUNCTION",
    ),
    "xdp": Kind(("xdp", "xdp.frags"), "network.xdp", _NET, "xdp:eth0", "xdp"),
    "xdp_devmap": Kind(("xdp/devmap",), needs=_NET),
    "xdp_cpumap": Kind(("xdp/cpumap",), needs=_NET),
    "tc": Kind(
        ("tc", "tc/ingress", "tc/egress", "tcx/ingress", "tcx/egress", "classifier"),
        "traffic.tc",
        _NET,
        "tc:eth0:ingress",
        "tc",
    ),
    "netfilter": Kind(("netfilter",), "network.netfilter", _NET, "netfilter:ipv4:local_in", "netfilter"),
    "sk_lookup": Kind(("sk_lookup",), "network.in_namespace", _NET, prefix="netns"),
    "flow_dissector": Kind(("flow_dissector",), "network.in_namespace", _NET, prefix="netns"),
    "socket": Kind(("socket",), "sockets.packets", ("BPF", "NET_RAW"), "socket:eth0", "socket"),
    "sk_skb": Kind(("sk_skb/stream_parser", "sk_skb/stream_verdict", "sk_skb"), "sockets.in_map", _NET, *_MAP),
    "sk_msg": Kind(("sk_msg",), "sockets.in_map", _NET, *_MAP),
    "sk_reuseport": Kind(("sk_reuseport",), "sockets.reuseport", _NET, "port:udp/5353", "port"),
    "cgroup_skb": Kind(("cgroup_skb/ingress", "cgroup_skb/egress"), *_CGROUP),
    "cgroup_sock": Kind(
        ("cgroup/sock_create", "cgroup/sock_release", "cgroup/post_bind4", "cgroup/post_bind6"), *_CGROUP
    ),
    "cgroup_sock_addr": Kind(
        tuple(f"cgroup/{call}{version}" for call in _ADDRESS_CALLS for version in (4, 6)), *_CGROUP
    ),
    "cgroup_device": Kind(("cgroup/dev",), *_CGROUP),
    "cgroup_sysctl": Kind(("cgroup/sysctl",), *_CGROUP),
    "cgroup_sockopt": Kind(("cgroup/getsockopt", "cgroup/setsockopt"), *_CGROUP),
    "sock_ops": Kind(("sockops",), *_CGROUP),
    "lsm_cgroup": Kind(("lsm_cgroup/HOOK",), *_CGROUP),
    "struct_ops": Kind(("struct_ops/MEMBER",), needs=_NET),
}
# Kinds of one program type, told apart by the section; those with .s may sleep.
_PROBES = frozenset(
    "uprobe uretprobe uprobe.multi uretprobe.multi usdt kprobe kretprobe ksyscall kretsyscall kprobe.multi "
    "kretprobe.multi".split()
)
# Program type, attach type and flags of sections that libbpf 1.1 does not know, by the whole section or its first word.
TYPED = {
    "uprobe.multi": (KPROBE, TRACE_UPROBE_MULTI, 0),
    "uretprobe.multi": (KPROBE, TRACE_UPROBE_MULTI, 0),
    "uprobe.multi.s": (KPROBE, TRACE_UPROBE_MULTI, SLEEPABLE),
    "uretprobe.multi.s": (KPROBE, TRACE_UPROBE_MULTI, SLEEPABLE),
    "usdt.s": (KPROBE, 0, SLEEPABLE),
    "tc/ingress": (SCHED_CLS, TCX_INGRESS, 0),
    "tc/egress": (SCHED_CLS, TCX_EGRESS, 0),
    "tcx/ingress": (SCHED_CLS, TCX_INGRESS, 0),
    "tcx/egress": (SCHED_CLS, TCX_EGRESS, 0),
    "netfilter": (NETFILTER, ON_NETFILTER, 0),
    "sk_skb/verdict": (SK_SKB, ON_SKB_VERDICT, 0),
    "cgroup/connect_unix": (CGROUP_SOCK_ADDR, 49, 0),
    "cgroup/sendmsg_unix": (CGROUP_SOCK_ADDR, 50, 0),
    "cgroup/recvmsg_unix": (CGROUP_SOCK_ADDR, 51, 0),
    "cgroup/getpeername_unix": (CGROUP_SOCK_ADDR, 52, 0),
    "cgroup/getsockname_unix": (CGROUP_SOCK_ADDR, 53, 0),
}
# Kinds that a target can name for a program whose section says nothing: --attach handle=tc:eth0:egress.
NAMED = {
    **dict.fromkeys(("kprobe", "kretprobe", "ksyscall", "kretsyscall", "uprobe", "uretprobe"), (KPROBE, 0)),
    "tracepoint": (TRACEPOINT, 0),
    "raw_tp": (RAW_TRACEPOINT, 0),
    "perf_event": (PERF_EVENT, 0),
    "xdp": (XDP, ON_XDP),
    "tc": (SCHED_CLS, 0),
    "socket": (SOCKET_FILTER, 0),
}
_TRACING = {
    TRACE_RAW_TP: "tp_btf",
    TRACE_FENTRY: "fentry",
    TRACE_FEXIT: "fexit",
    MODIFY_RETURN: "fmod_ret",
    TRACE_ITER: "iter",
}
# Kinds whose target the kernel resolves by its BTF while loading, and which therefore stands in the section.
BY_FUNCTION = frozenset({"fentry", "fexit", "fmod_ret", "lsm", "lsm_cgroup"})
BY_BTF = BY_FUNCTION | {"tp_btf", "iter"}
# Those of them that are bound to one thing only, which may also be given beside the cell.
BOUND = BY_BTF - {"lsm_cgroup", "iter"}
_BY_TYPE = {
    TRACEPOINT: "tracepoint",
    RAW_TRACEPOINT: "raw_tp",
    PERF_EVENT: "perf_event",
    SYSCALL: "syscall",
    SCHED_CLS: "tc",
    NETFILTER: "netfilter",
    SK_LOOKUP: "sk_lookup",
    FLOW_DISSECTOR: "flow_dissector",
    SOCKET_FILTER: "socket",
    SK_SKB: "sk_skb",
    SK_MSG: "sk_msg",
    SK_REUSEPORT: "sk_reuseport",
    CGROUP_SKB: "cgroup_skb",
    CGROUP_SOCK: "cgroup_sock",
    CGROUP_SOCK_ADDR: "cgroup_sock_addr",
    CGROUP_DEVICE: "cgroup_device",
    CGROUP_SYSCTL: "cgroup_sysctl",
    CGROUP_SOCKOPT: "cgroup_sockopt",
    SOCK_OPS: "sock_ops",
    STRUCT_OPS: "struct_ops",
}
_XDP = {0: "xdp", ON_XDP: "xdp", XDP_DEVMAP: "xdp_devmap", XDP_CPUMAP: "xdp_cpumap"}

# sched_cls, sched_act, xdp, cgroup_skb, cgroup_sock, lwt_in, lwt_out, lwt_xmit, sock_ops, sk_skb, cgroup_device,
# sk_msg, cgroup_sock_addr, lwt_seg6local, lirc_mode2, sk_reuseport, flow_dissector, cgroup_sysctl,
# raw_tracepoint_writable, cgroup_sockopt, struct_ops, ext, lsm, sk_lookup, netfilter
_CHANGING_TYPES = frozenset({3, 4, 6, 8, 9, *range(10, 17), 18, 19, 20, 21, 22, 23, 24, 25, 27, 28, 29, 30, 32})
CHANGING_HELPERS = {
    13: "bpf_clone_redirect",  # sends for real, also when the program is only run over a packet
    36: "bpf_probe_write_user",
    58: "bpf_override_return",
    109: "bpf_send_signal",
    117: "bpf_send_signal_thread",
    166: "bpf_sys_bpf",  # may load and attach what this guard would have refused
}
CHANGING_KFUNCS = frozenset(
    "bpf_send_signal_task bpf_sock_destroy bpf_set_dentry_xattr bpf_remove_dentry_xattr"
    " bpf_ct_insert_entry bpf_ct_set_timeout bpf_ct_change_timeout bpf_ct_set_status bpf_ct_change_status".split()
)
PRINT_HELPERS = frozenset({6, 177})  # bpf_trace_printk, bpf_trace_vprintk


def attach_kind(program_type: int, attach_type: int, section: str) -> str | None:
    """Attach kind of a program; None when it is not offered yet."""
    if program_type == TRACING:
        return _TRACING.get(attach_type)
    if program_type == LSM:
        return {LSM_MAC: "lsm", LSM_CGROUP: "lsm_cgroup"}.get(attach_type)
    if program_type == EXT:
        return "freplace"
    if program_type == XDP:
        return _XDP.get(attach_type)
    if program_type == KPROBE:
        kind = section.partition("/")[0].removesuffix(".s")
        return kind if kind in _PROBES else None
    return _BY_TYPE.get(program_type)


def changes_behaviour(program_type: int, attach_type: int) -> bool:
    """Whether a program of that type can change what the machine does, whatever it calls."""
    return program_type in _CHANGING_TYPES or (program_type == TRACING and attach_type == MODIFY_RETURN)


def takes_target(kind: str) -> bool:
    """Whether what it is attached to is a name in the kernel's BTF, and nothing beside it is to be named."""
    return kind in BY_BTF and not KINDS[kind].prefix


def example(kind: str) -> str:
    """Give a target that programs of that kind may have."""
    return KINDS[kind].example if kind in KINDS else "TARGET"


def section_examples() -> list[str]:
    """How sections of the offered kinds are written."""
    return [example for kind in KINDS.values() for example in kind.sections]
