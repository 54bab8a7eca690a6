HASH(sums, u32, u64);

__noinline int weight(u32 pid)
{
    volatile int one = 1;
    return pid ? one : 0;
}

SEC("tracepoint/syscalls/sys_enter_getppid")
int on_call(void *ctx)
{
    u32 pid = PID();

    ADD(sums, pid, weight(pid));
    return 0;
}
