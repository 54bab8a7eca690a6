struct name {
    char comm[16];
};
extern int is_wanted(u32 pid);
extern u32 wanted_calls;

HASH(calls, u32, u64);

SEC("tracepoint/syscalls/sys_enter_getppid")
int on_call(void *ctx)
{
    u32 pid = PID();

    if (is_wanted(pid)) {
        wanted_calls += 1;
        COUNT(calls, pid);
    }
    return 0;
}
