HASH(calls, u32, u64);

SEC("uretprobe.multi/libc.so.6:getp?id")
int on_call(void *ctx)
{
    COUNT(calls, PID());
    return 0;
}
