#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

struct answer {
    __u32 pid;
    __u32 returned;
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 10240);
    __type(key, struct answer);
    __type(value, __u64);
} calls SEC(".maps");

SEC("uretprobe/libc.so.6:getppid")
int BPF_KRETPROBE(on_return, int returned)
{
    struct answer answer = { bpf_get_current_pid_tgid() >> 32, returned };
    __u64 one = 1, *count = bpf_map_lookup_elem(&calls, &answer);

    if (count)
        __sync_fetch_and_add(count, 1);
    else
        bpf_map_update_elem(&calls, &answer, &one, BPF_NOEXIST);
    return 0;
}
