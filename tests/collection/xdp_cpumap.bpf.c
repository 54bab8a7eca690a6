struct packet {
    struct ethhdr eth;
    struct iphdr ip;
    struct udphdr udp;
} __attribute__((packed));
ARRAY(seen, u64);
struct {
    __uint(type, BPF_MAP_TYPE_CPUMAP);
    __uint(max_entries, 4);
    __type(key, u32);
    __type(value, struct bpf_cpumap_val);
} targets SEC(".maps");

SEC("xdp")
int send_on(struct xdp_md *ctx)
{
    struct packet *packet = (void *)(long)ctx->data;

    if ((void *)(packet + 1) > (void *)(long)ctx->data_end || packet->ip.protocol != IPPROTO_UDP)
        return XDP_PASS;
    if (packet->udp.dest != __builtin_bswap16(40103))
        return XDP_PASS;
    return bpf_redirect_map(&targets, 0, XDP_PASS); /* XDP_PASS where the map has no entry */
}

SEC("xdp/cpumap")
int there(struct xdp_md *ctx)
{
    COUNT(seen, 0);
    /* Not XDP_DROP: cpu_map_bpf_prog_run_skb() used to return at the first dropped packet of its batch. */
    return XDP_PASS;
}
