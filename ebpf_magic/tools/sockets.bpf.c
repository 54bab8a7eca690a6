/* The sockets of one network namespace, as `ebpf_magic.sockets` gives them. */
struct inet_row {
	u64 inode;
	u64 local[2]; /* an IPv4 address in its first four bytes */
	u64 remote[2];
	u32 uid;
	u32 rx_queue_bytes;
	u32 tx_queue_bytes;
	u16 local_port;
	u16 remote_port;
	u8 is_ipv6;
	u8 state;
};

struct unix_row {
	u64 inode;
	u32 uid;
	u8 state;
	u8 type;
	char local[108];
};

#define AF_INET6 10
#define TCP_LISTEN_STATE 10

/* The kernel has them only with CONFIG_IPV6. */
struct sock_common___ipv6 {
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
} __attribute__((preserve_access_index));

static __always_inline u64 inode_of(struct sock *sk)
{
	struct socket *socket = sk->sk_socket;

	if (!socket)
		return 0;
	return BPF_CORE_READ(container_of(socket, struct socket_alloc, socket), vfs_inode.i_ino);
}

static __always_inline void address(struct inet_row *row, struct sock_common *sk)
{
	struct sock_common___ipv6 *six = (void *)sk;

	row->state = sk->skc_state;
	row->local_port = sk->skc_num;
	row->remote_port = __builtin_bswap16(sk->skc_dport);
	row->is_ipv6 = sk->skc_family == AF_INET6;
	if (row->is_ipv6 && bpf_core_field_exists(six->skc_v6_daddr)) {
		bpf_probe_read_kernel(row->local, sizeof(row->local), &six->skc_v6_rcv_saddr);
		bpf_probe_read_kernel(row->remote, sizeof(row->remote), &six->skc_v6_daddr);
	} else {
		row->local[0] = sk->skc_rcv_saddr;
		row->remote[0] = sk->skc_daddr;
	}
}

SEC("iter/tcp")
int tcp(struct bpf_iter__tcp *ctx)
{
	struct sock_common *common = ctx->sk_common;
	struct tcp_sock *tcp;
	struct inet_row row;
	struct sock *sk;

	if (!common)
		return 0;
	__builtin_memset(&row, 0, sizeof(row));
	row.uid = ctx->uid;
	address(&row, common);
	/* Not those of which only a stub is left (TIME_WAIT) or there (NEW_SYN_RECV). */
	tcp = bpf_skc_to_tcp_sock(common);
	if (tcp) {
		sk = &tcp->inet_conn.icsk_inet.sk;
		row.inode = inode_of(sk);
		row.tx_queue_bytes = tcp->write_seq - tcp->snd_una;
		if (row.state == TCP_LISTEN_STATE)
			row.tx_queue_bytes = 0;
		else if ((s32)(tcp->rcv_nxt - tcp->copied_seq) > 0)
			row.rx_queue_bytes = tcp->rcv_nxt - tcp->copied_seq;
	}
	ROW(ctx, row);
	return 0;
}

SEC("iter/udp")
int udp(struct bpf_iter__udp *ctx)
{
	struct udp_sock *udp = ctx->udp_sk;
	struct inet_row row;
	struct sock *sk;

	if (!udp)
		return 0;
	__builtin_memset(&row, 0, sizeof(row));
	sk = &udp->inet.sk;
	row.uid = ctx->uid;
	address(&row, &sk->__sk_common);
	row.inode = inode_of(sk);
	row.rx_queue_bytes = sk->sk_backlog.rmem_alloc.counter - udp->forward_deficit;
	row.tx_queue_bytes = sk->sk_wmem_alloc.refs.counter - 1;
	ROW(ctx, row);
	return 0;
}

SEC("iter/unix")
int unix_(struct bpf_iter__unix *ctx)
{
	struct unix_sock *found = ctx->unix_sk;
	struct unix_address *bound;
	struct unix_row row;
	u32 size;

	if (!found)
		return 0;
	__builtin_memset(&row, 0, sizeof(row));
	row.uid = ctx->uid;
	row.inode = inode_of(&found->sk);
	row.state = found->sk.__sk_common.skc_state;
	row.type = found->sk.sk_type;
	bound = found->addr;
	if (bound) {
		size = bound->len - 2; /* sun_family */
		if (size > sizeof(row.local))
			size = sizeof(row.local);
		bpf_probe_read_kernel(row.local, size, bound->name[0].sun_path);
		if (size && !row.local[0])
			row.local[0] = '@'; /* of the abstract namespace, as ss shows it */
	}
	ROW(ctx, row);
	return 0;
}
