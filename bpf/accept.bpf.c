// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

//go:build ignore

/*
 * tandem_accept4, tandem_accept6: netfilter INPUT. Drop what is addressed to a
 * virtual address that accepts nothing (RFC 9568 section 6.1, Accept_Mode).
 * Here, and not before: what a translation gives another destination is not
 * for this router, and never comes here. Needs BPF_PROG_TYPE_NETFILTER (6.4).
 */
#include "include/kernel.h"
#include "include/shared.h"

char __license[] SEC("license") = "Dual BSD/GPL";

#define NF_DROP 0
#define NF_ACCEPT 1
#define LOOPBACK_IFINDEX 1
#define NEIGHBOUR_SOLICITATION 135 /* RFC 4861 section 4.3, and 4.4 */
#define NEIGHBOUR_ADVERTISEMENT 136

/* The addresses that accept nothing, and how many packets each was spared. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct own_key);
	__type(value, __u64);
} tandem_refused SEC(".maps");

/* A flavour of sk_buff with one field more than the others read. */
struct sk_buff___linear {
	unsigned char *head;
	__u16 network_header;
	__u32 tail;
} CORE;

/*
 * ND keeps an IPv6 address alive. Its type stands in the linear part: drivers
 * and conntrack read it there; where it does not, it is no ND for us.
 */
static __always_inline bool is_neighbour(struct sk_buff___linear *skb, const struct ipv6 *ip)
{
	__u32 at = skb->network_header + sizeof(*ip);
	__u8 type = 0;

	if (ip->nexthdr != IPPROTO_ICMPV6 || ip->hop_limit != 255 || at >= skb->tail)
		return false;
	bpf_probe_read_kernel(&type, sizeof(type), skb->head + at);
	return type == NEIGHBOUR_SOLICITATION || type == NEIGHBOUR_ADVERTISEMENT;
}

static __always_inline int refuse(const struct own_key *key)
{
	__u64 *n = bpf_map_lookup_elem(&tandem_refused, key);

	if (!n)
		return NF_ACCEPT;
	__sync_fetch_and_add(n, 1);
	return NF_DROP;
}

SEC("netfilter")
int tandem_accept4(struct bpf_nf_ctx *ctx)
{
	struct sk_buff *skb = ctx->skb;
	struct own_key key = { .family = AF_INET };
	struct ipv4 ip = {};

	if (ctx->state->in->ifindex == LOOPBACK_IFINDEX)
		return NF_ACCEPT;
	bpf_probe_read_kernel(&ip, sizeof(ip), skb->head + skb->network_header);
	key.addr[0] = ip.daddr;
	return refuse(&key);
}

SEC("netfilter")
int tandem_accept6(struct bpf_nf_ctx *ctx)
{
	struct sk_buff___linear *skb = (void *)ctx->skb;
	struct own_key key = { .family = AF_INET6 };
	struct ipv6 ip = {};

	if (ctx->state->in->ifindex == LOOPBACK_IFINDEX)
		return NF_ACCEPT;
	bpf_probe_read_kernel(&ip, sizeof(ip), skb->head + skb->network_header);
	for (int i = 0; i < 4; i++)
		key.addr[i] = ip.daddr[i];
	return is_neighbour(skb, &ip) ? NF_ACCEPT : refuse(&key);
}
