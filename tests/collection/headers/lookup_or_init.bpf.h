/* What programs that come with headers of their own have in one of them: a map's value, made when there is none. */
#ifndef LOOKUP_OR_INIT_BPF_H
#define LOOKUP_OR_INIT_BPF_H

#include <bpf/bpf_helpers.h>

static __always_inline void *lookup_or_init(void *map, const void *key, const void *initial)
{
	void *value = bpf_map_lookup_elem(map, key);

	if (value)
		return value;
	bpf_map_update_elem(map, key, initial, BPF_NOEXIST);
	return bpf_map_lookup_elem(map, key);
}

#endif
