/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef TANDEM_XDP_H
#define TANDEM_XDP_H

#include "types.h"

/*
 * Offset of the network header, 0 if this is not the interface's own: a tag
 * with a number is a VLAN's, one without is a priority and the stack ignores it.
 * A tag that the card took off is not seen here, whatever its number.
 */
static __always_inline __u32 xdp_network(struct xdp_md *ctx, __u16 *protocol)
{
	__u32 at = 12;
	struct {
		__u16 protocol;
		__u16 tci;
	} tag;

	for (int i = 0; i < 3; i++) {
		if (bpf_xdp_load_bytes(ctx, at, &tag, sizeof(tag)))
			return 0;
		*protocol = tag.protocol;
		if (tag.protocol != htons(ETH_P_8021Q) && tag.protocol != htons(ETH_P_8021AD))
			return at + 2;
		if (tag.tci & htons(0x0fff))
			return 0;
		at += 4;
	}
	return 0;
}

#endif
