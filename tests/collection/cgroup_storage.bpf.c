struct {
    __uint(type, BPF_MAP_TYPE_CGROUP_STORAGE);
    __type(key, struct bpf_cgroup_storage_key);
    __type(value, u64);
} sent SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE);
    __type(key, struct bpf_cgroup_storage_key);
    __type(value, u64);
} bytes SEC(".maps");

SEC("cgroup_skb/egress")
int leaving(struct __sk_buff *skb)
{
    struct iphdr ip;
    struct udphdr udp;

    if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)) || ip.version != 4 || ip.protocol != IPPROTO_UDP)
        return 1;
    if (bpf_skb_load_bytes(skb, sizeof(ip), &udp, sizeof(udp)) || udp.dest != bpf_htons(40107))
        return 1;
    u64 *count = bpf_get_local_storage(&sent, 0);
    __sync_fetch_and_add(count, 1);
    u64 *total = bpf_get_local_storage(&bytes, 0);
    *total += skb->len;
    return 1;
}
