#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, 33); /* BPF_MAP_TYPE_ARENA, since 6.9 */
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4); /* pages */
} memory SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} page SEC(".maps");

void *bpf_arena_alloc_pages(void *map, void *address, __u32 pages, int node, __u64 flags) __ksym;

/* What a clang without address spaces (before 19) does not write: from a number to a pointer into the arena. */
#define IN_ARENA(pointer)                                                                                              \
	asm volatile(".byte 0xbf; .ifc %[reg], r0; .byte 0x00; .endif; .ifc %[reg], r1; .byte 0x11; .endif;"            \
		     ".ifc %[reg], r2; .byte 0x22; .endif; .ifc %[reg], r3; .byte 0x33; .endif;"                        \
		     ".ifc %[reg], r4; .byte 0x44; .endif; .ifc %[reg], r5; .byte 0x55; .endif;"                        \
		     ".ifc %[reg], r6; .byte 0x66; .endif; .ifc %[reg], r7; .byte 0x77; .endif;"                        \
		     ".ifc %[reg], r8; .byte 0x88; .endif; .ifc %[reg], r9; .byte 0x99; .endif;"                        \
		     ".short 1; .long 1"                                                                               \
		     : [reg] "+r"(pointer))

SEC("syscall")
int fill(void *ctx)
{
	__u32 zero = 0, i;
	__u64 *place = bpf_map_lookup_elem(&page, &zero);
	__u64 *values = bpf_arena_alloc_pages(&memory, NULL, 1, -1, 0);

	if (!values || !place)
		return 1;
	*place = (__u64)values;
	IN_ARENA(values);
	for (i = 0; i < 8; i++)
		values[i] = i * i;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
