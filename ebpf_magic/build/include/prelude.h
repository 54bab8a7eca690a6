/* SPDX-License-Identifier: Apache-2.0 */
/* What a cell without a single #include is given. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "ebpf_magic.h"
