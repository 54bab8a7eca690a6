struct row {
    u32 pid;
    u32 tid;
    u32 ppid;
    char comm[16];
};

SEC("iter/task")
int threads(struct bpf_iter__task *ctx)
{
    struct task_struct *task = ctx->task;

    if (!task)
        return 0;
    struct row row = {.pid = task->tgid, .tid = task->pid, .ppid = task->real_parent->tgid};
    bpf_probe_read_kernel_str(row.comm, sizeof(row.comm), task->comm);
    ROW(ctx, row);
    return 0;
}
