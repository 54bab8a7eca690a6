ARRAY(heard, u64);

SEC("socket")
int listen(struct __sk_buff *skb)
{
    struct {
        struct ethhdr eth;
        struct iphdr ip;
        struct udphdr udp;
    } __attribute__((packed)) packet;

    /* On the loopback each packet passes twice: as it leaves (PACKET_OUTGOING), and as it comes. */
    if (skb->pkt_type == 4 || bpf_skb_load_bytes(skb, 0, &packet, sizeof(packet)))
        return 0;
    if (packet.ip.protocol == IPPROTO_UDP && packet.udp.dest == __builtin_bswap16(40115))
        COUNT(heard, 0);
    return 0;
}
