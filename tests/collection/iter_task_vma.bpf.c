struct row {
    u32 pid;
    u64 start;
    u64 end;
    u64 flags;
};

SEC("iter/task_vma")
int mappings(struct bpf_iter__task_vma *ctx)
{
    struct task_struct *task = ctx->task;
    struct vm_area_struct *vma = ctx->vma;

    if (!task || !vma)
        return 0;
    struct row row = {.pid = task->tgid, .start = vma->vm_start, .end = vma->vm_end, .flags = vma->vm_flags};
    ROW(ctx, row);
    return 0;
}
