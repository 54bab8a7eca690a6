HASH(children, u32, u64);

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task)
{
    COUNT(children, task->real_parent->tgid);
    return 0;
}
