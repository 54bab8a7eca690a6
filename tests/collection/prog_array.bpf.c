int last(void *ctx);

struct {
    __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
    __uint(max_entries, 2);
    __uint(key_size, sizeof(u32));
    __array(values, int(void *));
} jump SEC(".maps") = { .values = { [1] = (void *)&last } };

struct step {
    u32 pid;
    u32 program;
};
HASH(steps, struct step, u64);

static void took(u32 program)
{
    struct step step = { PID(), program };
    COUNT(steps, step);
}

SEC("tracepoint/syscalls/sys_enter_getppid")
int first(void *ctx)
{
    took(1);
    bpf_tail_call(ctx, &jump, 0);
    took(99); /* where nothing stands, the program goes on */
    return 0;
}

SEC("tracepoint")
int middle(void *ctx)
{
    took(2);
    bpf_tail_call(ctx, &jump, 1);
    return 0;
}

SEC("tracepoint")
int last(void *ctx)
{
    took(3);
    return 0;
}
