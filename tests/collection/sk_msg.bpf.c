struct {
    __uint(type, BPF_MAP_TYPE_SOCKHASH);
    __uint(max_entries, 64);
    __type(key, u64);
    __type(value, u64);
} pairs SEC(".maps");
ARRAY(bytes, u64);

SEC("sockops")
int collect(struct bpf_sock_ops *ctx)
{
    u64 key = (u64)ctx->local_port << 32 | ctx->remote_port;

    if (ctx->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB && ctx->remote_port == __builtin_bswap32(40112))
        bpf_sock_hash_update(ctx, &pairs, &key, BPF_ANY);
    return 1;
}

SEC("sk_msg")
int on_send(struct sk_msg_md *msg)
{
    ADD(bytes, 0, msg->size);
    return SK_PASS;
}
