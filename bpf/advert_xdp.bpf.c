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

/*
 * What eth_type_trans() makes of the destination: a group, or the interface's
 * own address. That is read from the device each time, since it may change.
 */
static __always_inline bool is_ours(const struct packet *p)
{
	struct xdp_buff *xdp = p->ctx;
	struct xdp_rxq_info *rxq;
	struct net_device *dev;
	struct ethernet eth;
	__u8 own[ETH_ALEN];

	if (bpf_xdp_load_bytes(p->ctx, 0, &eth, sizeof(eth)))
		return false;
	if (eth.to[0] & 1)
		return true;
	rxq = CORE_READ(xdp, rxq);
	dev = CORE_READ(rxq, dev);
	if (bpf_probe_read_kernel(own, sizeof(own), CORE_READ(dev, dev_addr)))
		return false;
	return !__builtin_memcmp(eth.to, own, ETH_ALEN);
}

/*
 * Every packet of the interface comes by, so most leave after a look at their
 * first bytes, where these are at hand. The rest goes the long way.
 */
static __always_inline bool is_other(struct xdp_md *ctx)
{
	struct ethernet *eth = (void *)(unsigned long)ctx->data;
	void *end = (void *)(unsigned long)ctx->data_end;
	struct ipv4 *v4 = (void *)(eth + 1);
	struct ipv6 *v6 = (void *)(eth + 1);

	if ((void *)(v4 + 1) > end) /* what is read of either is in there */
		return false;
	if (eth->protocol == htons(ETH_P_IP))
		return v4->protocol != IPPROTO_VRRP;
	if (eth->protocol == htons(ETH_P_IPV6))
		return v6->nexthdr != IPPROTO_VRRP;
	return false;
}

SEC("xdp.frags")
int tandem_adv_xdp(struct xdp_md *ctx)
{
	struct packet p = { .ctx = ctx, .ifindex = ctx->ingress_ifindex };

	if (is_other(ctx))
		return XDP_PASS;
	p.network = xdp_network(ctx, &p.protocol);
	if (p.network)
		received(&p);
	return XDP_PASS;
}
