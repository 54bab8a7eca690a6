/* SPDX-License-Identifier: Apache-2.0 */
/* What a cell with a USDT program is given on top: not all are, since it declares maps. */
#include <bpf/usdt.bpf.h>
