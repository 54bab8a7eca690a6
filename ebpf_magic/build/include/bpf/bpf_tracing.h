/* SPDX-License-Identifier: Apache-2.0 */
/* What programs of today take from libbpf's header of this name, where the one installed is older. */
#include_next <bpf/bpf_tracing.h>

/* Since libbpf 1.2. */
#ifndef BPF_UPROBE
#define BPF_UPROBE(name, args...) BPF_KPROBE(name, ##args)
#define BPF_URETPROBE(name, args...) BPF_KRETPROBE(name, ##args)
#endif
