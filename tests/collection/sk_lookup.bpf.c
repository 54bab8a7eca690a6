struct {
    __uint(type, BPF_MAP_TYPE_SOCKMAP);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, u64);
} server SEC(".maps");
HASH(led, u32, u64);

SEC("sockops")
int on_listen(struct bpf_sock_ops *ctx)
{
    u32 zero = 0;

    if (ctx->op == BPF_SOCK_OPS_TCP_LISTEN_CB && ctx->local_port == 40114)
        bpf_sock_map_update(ctx, &server, &zero, BPF_ANY);
    return 1;
}

SEC("sk_lookup")
int choose(struct bpf_sk_lookup *ctx)
{
    u32 zero = 0;
    struct bpf_sock *sk;

    if (ctx->protocol != IPPROTO_TCP || ctx->local_port < 40200 || ctx->local_port >= 40210)
        return SK_PASS;
    sk = bpf_map_lookup_elem(&server, &zero);
    if (!sk)
        return SK_PASS;
    if (!bpf_sk_assign(ctx, sk, 0))
        COUNT(led, ctx->local_port);
    bpf_sk_release(sk);
    return SK_PASS;
}
