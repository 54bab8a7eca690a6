struct row {
    u32 state;
    u16 port;
    u16 family;
    u32 uid;
};

SEC("iter/tcp")
int sockets(struct bpf_iter__tcp *ctx)
{
    struct sock_common *sk = ctx->sk_common;

    if (!sk)
        return 0;
    struct row row = {.state = sk->skc_state, .port = sk->skc_num, .family = sk->skc_family, .uid = ctx->uid};
    ROW(ctx, row);
    return 0;
}
