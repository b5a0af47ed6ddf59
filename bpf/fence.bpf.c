// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

//go:build ignore

/*
 * tandem_fence4, tandem_fence6: netfilter PREROUTING between conntrack (-200)
 * and DNAT (-100). While up, drop what the kernel table does not know: NEW and
 * INVALID. Never answer. Needs BPF_PROG_TYPE_NETFILTER (6.4).
 */
#include "include/kernel.h"
#include "include/fence.h"

char __license[] SEC("license") = "Dual BSD/GPL";

#define NF_DROP 0
#define NF_ACCEPT 1
#define LOOPBACK_IFINDEX 1

/* The IP header is linear here: ip_rcv() and ipv6_rcv() pulled it. */
static __always_inline void dest_of(struct sk_buff *skb, __u32 family, struct dest *d)
{
	unsigned char *at = skb->head + skb->network_header;

	d->family = family;
	if (family == AF_INET) {
		struct ipv4 ip = {};

		bpf_probe_read_kernel(&ip, sizeof(ip), at);
		d->proto = ip.protocol;
		d->addr[0] = ip.daddr;
	} else {
		struct ipv6 ip = {};

		bpf_probe_read_kernel(&ip, sizeof(ip), at);
		d->proto = ip.nexthdr;
		for (int i = 0; i < 4; i++)
			d->addr[i] = ip.daddr[i];
	}
}

/* The destination port of a packet that is NEW: its entry knows it. */
static __always_inline __u16 dport_of(__u64 nfct)
{
	struct nf_conn *ct = (struct nf_conn *)(nfct & ~NFCT_INFO);

	return CORE_READ(ct, tuplehash[0].tuple.dst.u.all);
}

static __always_inline int judge(struct bpf_nf_ctx *ctx, __u32 family, struct fence_counters *n)
{
	__u64 nfct = ctx->skb->_nfct;
	__u32 info = nfct & NFCT_INFO;
	struct dest d = {};

	if (info == IP_CT_UNTRACKED) {
		n->passed_untracked++;
		return NF_ACCEPT;
	}
	if (nfct && info != IP_CT_NEW) {
		n->passed_known++;
		return NF_ACCEPT;
	}
	if (ctx->state->in->ifindex == LOOPBACK_IFINDEX) {
		n->passed_local++;
		return NF_ACCEPT;
	}
	dest_of(ctx->skb, family, &d);
	if (passes_by_dest(&d, n))
		return NF_ACCEPT;
	if (!nfct) {
		n->dropped_invalid++;
		return NF_DROP;
	}
	if (is_sync(&d, dport_of(nfct))) {
		n->passed_sync++;
		return NF_ACCEPT;
	}
	n->dropped_new++;
	return NF_DROP;
}

static __always_inline int fence(struct bpf_nf_ctx *ctx, __u32 family)
{
	struct fence_counters *n;

	if (!fence_up())
		return NF_ACCEPT;
	n = fence_count();
	return n ? judge(ctx, family, n) : NF_ACCEPT;
}

SEC("netfilter")
int tandem_fence4(struct bpf_nf_ctx *ctx)
{
	return fence(ctx, AF_INET);
}

SEC("netfilter")
int tandem_fence6(struct bpf_nf_ctx *ctx)
{
	return fence(ctx, AF_INET6);
}
