ARRAY(seen, u64);

SEC("tc/ingress")
int count(struct __sk_buff *skb)
{
    struct {
        struct ethhdr eth;
        struct iphdr ip;
        struct udphdr udp;
    } __attribute__((packed)) packet;

    if (bpf_skb_load_bytes(skb, 0, &packet, sizeof(packet)) || packet.ip.protocol != IPPROTO_UDP)
        return -1; /* TC_ACT_UNSPEC: the next program decides */
    if (packet.udp.dest == __builtin_bswap16(40102))
        COUNT(seen, 0);
    return -1;
}
