struct {
    __uint(type, BPF_MAP_TYPE_XSKMAP);
    __uint(max_entries, 8);
    __uint(key_size, 4);
    __uint(value_size, 4);
} sockets SEC(".maps");

SEC("xdp")
int send_up(struct xdp_md *ctx)
{
    return bpf_redirect_map(&sockets, 0, XDP_TX); /* XDP_TX where no socket is in the map */
}
