HASH(calls, u32, u64);

SEC("tracepoint/syscalls/sys_enter_getppid")
int on_call(void *ctx)
{
    COUNT(calls, PID());
    return 0;
}
