SEC("flow_dissector")
int dissect(struct __sk_buff *skb)
{
    struct bpf_flow_keys *keys = skb->flow_keys;

    keys->addr_proto = 0x0800; /* as the kernel has it here: in the host's order */
    keys->thoff = keys->nhoff + sizeof(struct iphdr);
    keys->ip_proto = IPPROTO_UDP;
    return 0; /* BPF_OK */
}
