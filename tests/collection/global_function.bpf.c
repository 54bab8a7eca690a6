HASH(calls, u32, u64);

/* Not static: the verifier looks at it once, by itself, whatever its callers hand to it. */
__noinline int counted(u32 pid, int weight)
{
    if (weight < 1 || weight > 10)
        return 0;
    ADD(calls, pid, weight);
    return weight;
}

SEC("raw_tp/sys_enter")
int on_enter(struct bpf_raw_tracepoint_args *ctx)
{
    struct pt_regs *regs = (struct pt_regs *)ctx->args[0];
    u64 first = PT_REGS_PARM1_CORE_SYSCALL(regs);

    if (first == 0x7fffff00)
        counted(PID(), 3);
    return 0;
}
