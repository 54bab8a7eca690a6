SEC("iter/udp")
int ports(struct bpf_iter__udp *ctx)
{
    struct udp_sock *udp = ctx->udp_sk;

    if (!udp)
        return 0;
    u16 port = udp->inet.sk.__sk_common.skc_num;
    ROW(ctx, port);
    return 0;
}
