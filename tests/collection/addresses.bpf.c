struct peer {
    u32 from AS(ipv4);
    u8 to[4] AS(ipv4);
    u8 to_v6[16] AS(ipv6);
    u16 port AS(port);
    u8 device[6] AS(mac);
    u8 padding[2];
};
HASH(connects, struct peer, u64);
HASH(by_address, u32, u64) KEY_AS(ipv4) VALUE_AS(hex);

SEC("tracepoint/sock/inet_sock_set_state")
int on_state(struct trace_event_raw_inet_sock_set_state *ctx)
{
    struct peer peer = {.device = {2, 0, 0, 0, 0, 1}};
    u64 flags = 0x2a;
    if (ctx->newstate != 2 /* TCP_SYN_SENT */ || ctx->dport != 47113)
        return 0;
    bpf_probe_read_kernel(&peer.from, 4, &ctx->saddr);
    bpf_probe_read_kernel(&peer.to, 4, &ctx->daddr);
    bpf_probe_read_kernel(&peer.to_v6, 16, &ctx->daddr_v6);
    peer.port = __builtin_bswap16(ctx->dport);
    COUNT(connects, peer);
    bpf_map_update_elem(&by_address, &peer.from, &flags, 0);
    return 0;
}
