#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "ebpf_magic.h"

char LICENSE[] SEC("license") = "GPL";

HASH(calls, u32, u64);

SEC("fexit/security_task_getpgid")
int BPF_PROG(on_return, struct task_struct *task, int returned)
{
    if (!returned)
        COUNT(calls, task->tgid);
    return 0;
}
