struct packet {
    struct ethhdr eth;
    struct iphdr ip;
    struct udphdr udp;
} __attribute__((packed));
ARRAY(dropped, u64);

SEC("xdp")
int drop(struct xdp_md *ctx)
{
    struct packet *packet = (void *)(long)ctx->data;

    if ((void *)(packet + 1) > (void *)(long)ctx->data_end || packet->ip.protocol != IPPROTO_UDP)
        return XDP_PASS;
    if (packet->udp.dest != __builtin_bswap16(40101))
        return XDP_PASS;
    COUNT(dropped, 0);
    return XDP_DROP;
}
