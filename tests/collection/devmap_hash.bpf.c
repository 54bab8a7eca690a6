struct {
    __uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
    __uint(max_entries, 8);
    __uint(key_size, 4);
    __uint(value_size, 4);
} targets SEC(".maps");

SEC("xdp")
int send_on(struct xdp_md *ctx)
{
    unsigned char *packet = (void *)(long)ctx->data;

    if (packet + 15 > (unsigned char *)(long)ctx->data_end)
        return XDP_ABORTED;
    return bpf_redirect_map(&targets, packet[14] & 7, XDP_DROP); /* XDP_DROP where the map has no entry */
}
