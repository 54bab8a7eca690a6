"""An empty program of each network and cgroup kind, loaded and attached in a place made for it and gone afterwards."""

from __future__ import annotations

import ctypes as C
import errno
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from . import bpf, bpf_links, kinds
from .attach import cgroups, functions, sockets, traffic
from .attach.links import OwnLink
from .libbpf import Library
from .programs import load_empty

_CLONE_NEWNET = 0x40000000
_LOOPBACK = 1  # its index in every network namespace
_SOCKMAP = 15
_NF_IPV4, _LOCAL_IN = 2, 1
_HOOK = b"socket_bind"
_STRUCT, _MEMBERS = b"tcp_congestion_ops", 64
_BTF_KIND_STRUCT = 4
# Kind: program type and expected attach type.
TYPES = {
    "xdp": (kinds.XDP, kinds.ON_XDP),
    "tc": (kinds.SCHED_CLS, 0),
    "netfilter": (kinds.NETFILTER, kinds.ON_NETFILTER),
    "sk_lookup": (kinds.SK_LOOKUP, kinds.ON_SK_LOOKUP),
    "flow_dissector": (kinds.FLOW_DISSECTOR, kinds.ON_FLOW_DISSECTOR),
    "socket": (kinds.SOCKET_FILTER, 0),
    "sk_skb": (kinds.SK_SKB, kinds.ON_STREAM_VERDICT),
    "sk_msg": (kinds.SK_MSG, kinds.ON_MSG_VERDICT),
    "sk_reuseport": (kinds.SK_REUSEPORT, kinds.ON_REUSEPORT),
    "cgroup_skb": (kinds.CGROUP_SKB, 1),  # BPF_CGROUP_INET_EGRESS, and so on
    "cgroup_sock": (kinds.CGROUP_SOCK, 2),
    "cgroup_sock_addr": (kinds.CGROUP_SOCK_ADDR, 10),
    "cgroup_device": (kinds.CGROUP_DEVICE, 6),
    "cgroup_sysctl": (kinds.CGROUP_SYSCTL, 18),
    "cgroup_sockopt": (kinds.CGROUP_SOCKOPT, 22),
    "sock_ops": (kinds.SOCK_OPS, 3),
    "lsm_cgroup": (kinds.LSM, kinds.LSM_CGROUP),
    "struct_ops": (kinds.STRUCT_OPS, 0),
}
_libc = C.CDLL(None, use_errno=True)


def load(library: Library, kind: str) -> int:
    """Descriptor of an empty program for that kind; raises OSError."""
    program_type, attach_type = TYPES[kind]
    if kind == "lsm_cgroup":
        btf_id = library.libbpf_find_vmlinux_btf_id(_HOOK, attach_type)
        if btf_id < 0:
            raise OSError(-btf_id, f"the kernel's BTF has no hook {_HOOK.decode()}")
        return load_empty(library, program_type, attach_type, btf_id)
    if kind == "struct_ops":
        return _load_struct_ops(library)
    return load_empty(library, program_type, attach_type)


def _load_struct_ops(library: Library) -> int:
    """Load a program for whichever function of the struct takes one that does nothing."""
    btf = library.btf__load_vmlinux_btf()
    if not btf:
        raise OSError(C.get_errno(), "the kernel has no BTF")
    try:
        btf_id = library.btf__find_by_name_kind(btf, _STRUCT, _BTF_KIND_STRUCT)
    finally:
        library.btf__free(btf)
    if btf_id < 0:
        raise OSError(-btf_id, f"the kernel's BTF has no {_STRUCT.decode()}")
    for member in range(_MEMBERS):
        try:
            return load_empty(library, kinds.STRUCT_OPS, member, btf_id)
        except OSError as error:
            refusal = error
    raise refusal


@contextmanager
def attached(library: Library, kind: str, program_fd: int) -> Iterator[None]:
    """Attach it while the block runs, where nothing else is; raises OSError."""
    with ExitStack() as stack:
        if kind in ("sk_skb", "sk_msg"):
            map_fd = bpf.map_create(_SOCKMAP, 4, 4, 1)
            stack.callback(os.close, map_fd)
            bpf_links.prog_attach(program_fd, map_fd, TYPES[kind][1])
            stack.callback(bpf_links.prog_detach, program_fd, map_fd, TYPES[kind][1])
        elif kind == "lsm_cgroup" and "bpf" not in (functions.security_modules() or ["bpf"]):
            raise OSError(errno.EOPNOTSUPP, "bpf is not among the kernel's security modules: it would never be called")
        elif kind.startswith("cgroup") or kind in ("sock_ops", "lsm_cgroup"):
            directory = stack.enter_context(_empty_cgroup())
            stack.callback(OwnLink(bpf_links.link_create(program_fd, directory, TYPES[kind][1])).close)
        elif kind != "struct_ops":  # which takes a table of functions with names, and is only loaded
            stack.enter_context(_empty_namespace())
            _attach(library, kind, program_fd, stack)
        yield


def _attach(library: Library, kind: str, program_fd: int, stack: ExitStack) -> None:
    """Attach it in the network namespace of this thread."""
    if kind == "tc":
        try:
            stack.callback(OwnLink(bpf_links.link_create(program_fd, _LOOPBACK, kinds.TCX_INGRESS)).close)
        except OSError:  # no tcx: the classic hook
            stack.callback(traffic.Filter(library, _LOOPBACK, "ingress", program_fd, 1).close)
    elif kind == "socket":
        stack.callback(sockets.PacketSocket(program_fd, _LOOPBACK, "lo").close)
    elif kind == "sk_reuseport":
        owner = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        owner.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        owner.bind(("", 0))
        stack.callback(sockets.OnPort(program_fd, owner).close)
    elif kind in ("xdp", "netfilter"):
        more = (_NF_IPV4, _LOCAL_IN, 1, 0) if kind == "netfilter" else ()
        target = _LOOPBACK if kind == "xdp" else 0
        stack.callback(OwnLink(bpf_links.link_create(program_fd, target, TYPES[kind][1], more=more)).close)
    else:
        namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, namespace)
        stack.callback(OwnLink(bpf_links.link_create(program_fd, namespace, TYPES[kind][1])).close)


@contextmanager
def _empty_namespace() -> Iterator[None]:
    """Have this thread in a network namespace of its own while the block runs."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.unshare(_CLONE_NEWNET):
            raise OSError(C.get_errno(), f"make a network namespace: {os.strerror(C.get_errno())}")
        try:
            yield
        finally:
            if _libc.setns(before, _CLONE_NEWNET):
                raise OSError(C.get_errno(), f"return to the network namespace: {os.strerror(C.get_errno())}")
    finally:
        os.close(before)


@contextmanager
def _empty_cgroup() -> Iterator[int]:
    """Descriptor of a cgroup without processes."""
    path = f"{cgroups.mounted()}/ebpf_magic.probe.{os.getpid()}"
    try:
        os.mkdir(path)
    except OSError as error:
        raise OSError(error.errno or errno.EIO, f"make a cgroup: {error.strerror}") from None
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield directory
        finally:
            os.close(directory)
    finally:
        os.rmdir(path)
