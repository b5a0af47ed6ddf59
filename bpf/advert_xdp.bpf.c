// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

//go:build ignore

/*
 * tandem_adv_xdp: XDP of a group's interface, where the operator asked for it.
 * Does what tandem_advert does, before there is an skb, and passes every packet
 * on. The maps are tandem_advert's: user space reads one ring.
 */
#include "include/advert.h"
#include "include/kernel.h"
#include "include/xdp.h"

char __license[] SEC("license") = "Dual BSD/GPL";

static __always_inline long read_packet(const struct packet *p, __u32 off, void *to, __u32 len)
{
	return bpf_xdp_load_bytes(p->ctx, p->network + off, to, len);
}

#define ETH_ALEN 6

/*
 * What eth_type_trans() makes of the destination: a group, or the interface's
 * own address. That is read from the device each time, since it may change.
 */
static __always_inline bool is_ours(const struct packet *p)
{
	struct xdp_buff *xdp = p->ctx;
	struct xdp_rxq_info *rxq;
	struct net_device *dev;
	__u8 to[ETH_ALEN], own[ETH_ALEN];

	if (bpf_xdp_load_bytes(p->ctx, 0, to, sizeof(to)))
		return false;
	if (to[0] & 1)
		return true;
	rxq = CORE_READ(xdp, rxq);
	dev = CORE_READ(rxq, dev);
	if (bpf_probe_read_kernel(own, sizeof(own), CORE_READ(dev, dev_addr)))
		return false;
	return !__builtin_memcmp(to, own, ETH_ALEN);
}

SEC("xdp.frags")
int tandem_adv_xdp(struct xdp_md *ctx)
{
	struct packet p = { .ctx = ctx, .ifindex = ctx->ingress_ifindex };

	p.network = xdp_network(ctx, &p.protocol);
	if (p.network)
		received(&p);
	return XDP_PASS;
}
