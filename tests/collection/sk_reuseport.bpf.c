struct {
    __uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
    __uint(max_entries, 4);
    __type(key, u32);
    __type(value, u64);
} sockets SEC(".maps");
HASH(answers, s32, u64);

SEC("sk_reuseport")
int choose(struct sk_reuseport_md *ctx)
{
    u32 first = 0;

    COUNT(answers, bpf_sk_select_reuseport(ctx, &sockets, &first, 0));
    return SK_PASS; /* with none chosen, the kernel chooses */
}
