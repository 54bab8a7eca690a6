#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "ebpf_magic.h"

HASH(binds, u32, u64);

SEC("lsm_cgroup/socket_bind")
int BPF_PROG(on_bind, struct socket *sock, struct sockaddr *address, int length)
{
    struct sockaddr_in in = {};

    bpf_probe_read_kernel(&in, sizeof(in), address);
    if (in.sin_family != 2 || in.sin_port != __builtin_bswap16(40116))
        return 1;
    COUNT(binds, 40116);
    return 0; /* EPERM */
}

char LICENSE[] SEC("license") = "GPL";
