ARRAY(made, u64);
HASH(bound, u16, u64);

SEC("cgroup/sock_create")
int on_create(struct bpf_sock *sk)
{
    if (sk->protocol == IPPROTO_UDPLITE)
        COUNT(made, 0);
    return 1;
}

SEC("cgroup/post_bind4")
int on_bound(struct bpf_sock *sk)
{
    if (sk->src_port < 40107 || sk->src_port > 40108)
        return 1;
    COUNT(bound, sk->src_port);
    return sk->src_port == 40107;
}
