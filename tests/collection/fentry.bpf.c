HASH(calls, u32, u64);

SEC("fentry/security_task_getpgid")
int BPF_PROG(on_call, struct task_struct *task)
{
    COUNT(calls, task->tgid);
    return 0;
}
