HASH(packets, u16, u64);

static u16 port(struct __sk_buff *skb)
{
    struct iphdr ip;
    struct udphdr udp;

    if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)) || ip.version != 4 || ip.protocol != IPPROTO_UDP)
        return 0;
    if (bpf_skb_load_bytes(skb, sizeof(ip), &udp, sizeof(udp)))
        return 0;
    return __builtin_bswap16(udp.dest);
}

SEC("cgroup_skb/egress")
int leaving(struct __sk_buff *skb)
{
    if (port(skb) == 40105)
        COUNT(packets, 40105);
    return 1;
}

SEC("cgroup_skb/ingress")
int coming(struct __sk_buff *skb)
{
    if (port(skb) != 40106)
        return 1;
    COUNT(packets, 40106);
    return 0;
}
