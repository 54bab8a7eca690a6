struct row {
    u32 pid;
    char said[24];
};

/* May sleep, and so may bring in a page of another process's memory. */
SEC("iter.s/task")
int arguments(struct bpf_iter__task *ctx)
{
    struct task_struct *task = ctx->task;
    struct row row = {};

    if (!task || task->tgid != task->pid || !task->mm)
        return 0;
    row.pid = task->tgid;
    if (!bpf_copy_from_user_task(row.said, sizeof(row.said), (void *)task->mm->arg_start, task, 0))
        ROW(ctx, row);
    return 0;
}
