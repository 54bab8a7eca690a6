/* SPDX-License-Identifier: Apache-2.0 */
/* The licence of a cell that declares none. Most helpers of tracing programs are open to GPL-compatible programs only. */
char ebpf_magic_licence[] __attribute__((section("license"), used)) = "GPL";
