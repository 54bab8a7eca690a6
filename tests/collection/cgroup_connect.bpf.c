HASH(led, u32, u64);

SEC("cgroup/connect4")
int lead(struct bpf_sock_addr *ctx)
{
    if (ctx->user_port != __builtin_bswap16(40109))
        return 1;
    COUNT(led, ctx->user_ip4);
    ctx->user_port = __builtin_bswap16(40110);
    return 1;
}
