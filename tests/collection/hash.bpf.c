struct task {
    char comm[16];
};
HASH(opens, struct task, u64);

SEC("tracepoint/syscalls/sys_enter_openat")
int on_open(void *ctx)
{
    struct task task = {};
    COMM(task.comm);
    COUNT(opens, task);
    return 0;
}
