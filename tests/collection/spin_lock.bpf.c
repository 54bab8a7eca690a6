/* Two numbers that always belong together, under a lock that lies beside them in the map's value. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct account {
	struct bpf_spin_lock lock;
	__u32 changes;
	__s64 balance;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, struct account);
} accounts SEC(".maps");

static int add(__u32 key, __s64 amount)
{
	struct account *account = bpf_map_lookup_elem(&accounts, &key), empty = {};

	if (!account) {
		bpf_map_update_elem(&accounts, &key, &empty, BPF_NOEXIST);
		account = bpf_map_lookup_elem(&accounts, &key);
		if (!account)
			return 1;
	}
	bpf_spin_lock(&account->lock);
	account->changes++;
	account->balance += amount;
	bpf_spin_unlock(&account->lock);
	return 0;
}

SEC("xdp")
int transfer(struct xdp_md *ctx)
{
	return add(1, -5) || add(2, 5) ? XDP_ABORTED : XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
