// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

//go:build ignore

/*
 * tandem_fence_tc: the fence below 6.4, at TC ingress of every forwarding
 * interface, before conntrack. Asks the kernel table for the packet's tuple.
 *
 * It sees TCP and UDP in the default zone only. Other protocols, fragments
 * after the first and IPv6 extension headers pass (passed_unseen). Packets that
 * the ruleset leaves untracked are dropped, since it runs before the ruleset.
 */
#include "include/kernel.h"
#include "include/fence.h"

char __license[] SEC("license") = "Dual BSD/GPL";

/* include/uapi/linux/bpf.h */
struct bpf_sock_tuple {
	union {
		struct {
			__u32 saddr;
			__u32 daddr;
			__u16 sport;
			__u16 dport;
		} ipv4;
		struct {
			__u32 saddr[4];
			__u32 daddr[4];
			__u16 sport;
			__u16 dport;
		} ipv6;
	};
};

/* net/netfilter/nf_conntrack_bpf.c: struct bpf_ct_opts, its first twelve bytes */
struct bpf_ct_opts {
	int netns_id;
	int error;
	__u8 l4proto;
	__u8 dir;
	__u8 reserved[2];
};

extern struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *skb, struct bpf_sock_tuple *tuple,
					 __u32 tuple_size, struct bpf_ct_opts *opts,
					 __u32 opts_size) __ksym;
extern void bpf_ct_release(struct nf_conn *ct) __ksym;

struct packet {
	struct bpf_sock_tuple tuple;
	struct dest d;
	__u32 l4; /* offset from the network header */
	bool unseen;
};

static __always_inline bool parse4(struct __sk_buff *skb, struct packet *p)
{
	struct ipv4 ip;

	if (bpf_skb_load_bytes_relative(skb, 0, &ip, sizeof(ip), BPF_HDR_START_NET))
		return false;
	p->d.family = AF_INET;
	p->d.proto = ip.protocol;
	p->d.addr[0] = ip.daddr;
	p->tuple.ipv4.saddr = ip.saddr;
	p->tuple.ipv4.daddr = ip.daddr;
	p->l4 = (ip.ver_ihl & 15) * 4;
	p->unseen = ip.frag_off & htons(IP_OFFSET);
	return true;
}

static __always_inline bool parse6(struct __sk_buff *skb, struct packet *p)
{
	struct ipv6 ip;

	if (bpf_skb_load_bytes_relative(skb, 0, &ip, sizeof(ip), BPF_HDR_START_NET))
		return false;
	p->d.family = AF_INET6;
	p->d.proto = ip.nexthdr;
	for (int i = 0; i < 4; i++) {
		p->d.addr[i] = ip.daddr[i];
		p->tuple.ipv6.saddr[i] = ip.saddr[i];
		p->tuple.ipv6.daddr[i] = ip.daddr[i];
	}
	p->l4 = sizeof(ip);
	return true;
}

static __always_inline bool known(struct __sk_buff *skb, struct packet *p)
{
	struct bpf_ct_opts opts = { .netns_id = BPF_F_CURRENT_NETNS, .l4proto = p->d.proto };
	struct nf_conn *ct;

	if (p->d.family == AF_INET)
		ct = bpf_skb_ct_lookup(skb, &p->tuple, sizeof(p->tuple.ipv4), &opts, sizeof(opts));
	else
		ct = bpf_skb_ct_lookup(skb, &p->tuple, sizeof(p->tuple.ipv6), &opts, sizeof(opts));
	if (!ct)
		return false;
	bpf_ct_release(ct);
	return true;
}

static __always_inline int judge(struct __sk_buff *skb, struct packet *p, struct fence_counters *n)
{
	__u16 port[2];

	if (passes_by_dest(&p->d, n))
		return TC_NEXT;
	if (p->unseen || (p->d.proto != IPPROTO_TCP && p->d.proto != IPPROTO_UDP) ||
	    bpf_skb_load_bytes_relative(skb, p->l4, port, sizeof(port), BPF_HDR_START_NET)) {
		n->passed_unseen++;
		return TC_NEXT;
	}
	if (is_sync(&p->d, port[1])) {
		n->passed_sync++;
		return TC_NEXT;
	}
	if (p->d.family == AF_INET) {
		p->tuple.ipv4.sport = port[0];
		p->tuple.ipv4.dport = port[1];
	} else {
		p->tuple.ipv6.sport = port[0];
		p->tuple.ipv6.dport = port[1];
	}
	if (known(skb, p)) {
		n->passed_known++;
		return TC_NEXT;
	}
	n->dropped_new++; /* or INVALID: without an entry they look alike here */
	return TC_SHOT;
}

static __always_inline int fence(struct __sk_buff *skb)
{
	struct fence_counters *n = fence_count();
	struct packet p = {};

	if (!n)
		return TC_NEXT;
	if (skb->protocol == htons(ETH_P_IP)) {
		if (!parse4(skb, &p))
			return TC_NEXT;
	} else if (skb->protocol != htons(ETH_P_IPV6) || !parse6(skb, &p)) {
		return TC_NEXT;
	}
	return judge(skb, &p, n);
}

SEC("tc")
int tandem_fence_tc(struct __sk_buff *skb)
{
	return fence_up() ? fence(skb) : TC_NEXT;
}
