HASH(calls, u32, u64);

SEC("uprobe/libc.so.6:getppid")
int on_call(void *ctx)
{
    COUNT(calls, PID());
    return 0;
}
