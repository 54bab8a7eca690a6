/* SPDX-License-Identifier: Apache-2.0 */
/* What a compiler started ahead compiles: it has read the prelude when it comes to the cell, and waits for it. */

/* What most cells use, so that it is looked up by then; nothing of this is in the object. */
static inline __attribute__((unused)) u64 em__ahead(void *ctx)
{
	u64 key = bpf_get_current_pid_tgid() >> 32, *value = bpf_map_lookup_elem(ctx, &key);

	if (value)
		__sync_fetch_and_add(value, bpf_ktime_get_ns());
	else
		bpf_map_update_elem(ctx, &key, &key, BPF_NOEXIST);
	return key;
}

#include "/dev/stdin"
