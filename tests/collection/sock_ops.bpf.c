HASH(ops, u32, u64);

SEC("sockops")
int on_op(struct bpf_sock_ops *ctx)
{
    if (ctx->local_port == 40111 || ctx->remote_port == __builtin_bswap32(40111))
        COUNT(ops, ctx->op);
    return 1;
}
