/* SPDX-License-Identifier: Apache-2.0 */
/* What programs of today take from libbpf's header of this name, where the one installed is older. */
#include_next <bpf/bpf_core_read.h>

/* Since libbpf 1.4; the kernel has the function since 6.2. */
#ifndef bpf_core_cast
/* Without the short names for its attributes: bpf_helpers.h may come later. */
extern void *bpf_rdonly_cast(const void *obj, unsigned int btf_id) __attribute__((section(".ksyms"), weak));
#define bpf_core_cast(ptr, type) ((typeof(type) *)bpf_rdonly_cast((ptr), bpf_core_type_id_kernel(type)))
#endif
