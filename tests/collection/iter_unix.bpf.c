struct row {
    u64 inode;
    char name[108];
};

SEC("iter/unix")
int named(struct bpf_iter__unix *ctx)
{
    struct unix_sock *sock = ctx->unix_sk;
    struct unix_address *address;
    struct row row = {};

    if (!sock)
        return 0;
    address = sock->addr;
    if (!address)
        return 0;
    bpf_probe_read_kernel_str(row.name, sizeof(row.name), address->name[0].sun_path);
    row.inode = BPF_CORE_READ(container_of(sock->sk.sk_socket, struct socket_alloc, socket), vfs_inode.i_ino);
    ROW(ctx, row);
    return 0;
}
