/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What tandem_advert (TC) and tandem_adv_xdp (XDP) have in common: which
 * packets are VRRP adverts (IP protocol 112), and how one is told.
 */
#ifndef TANDEM_ADVERT_H
#define TANDEM_ADVERT_H

#include "shared.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 19);
} tandem_adverts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct advert_counters);
} tandem_advstat SEC(".maps");

EXPORT_TYPE(advert_record);

/* A packet as its hook has it. */
struct packet {
	void *ctx;
	__u32 network; /* offset of the IP header, for read_packet() alone */
	__u32 ifindex;
	__u16 protocol; /* ETH_P_*, in the packet's order */
};

/* These two are each hook's own. */

/* Reads from the IP header on; not 0: the packet ends before. */
static __always_inline long read_packet(const struct packet *p, __u32 off, void *to, __u32 len);

/* Whether the packet is meant for this host. Asked of protocol 112 only. */
static __always_inline bool is_ours(const struct packet *p);

/* Where a packet's PDU stands, and who sent it. */
struct found {
	__u32 src[4];
	__u32 dst[4];
	__u32 offset; /* from the IP header on */
	__u32 len;    /* as the IP header says: without the padding behind it */
	__u8 family;
	__u8 ttl;
	bool fragment;
};

static __always_inline bool find4(const struct packet *p, struct found *f)
{
	struct ipv4 ip;
	__u32 total;

	if (read_packet(p, 0, &ip, sizeof(ip)) || ip.protocol != IPPROTO_VRRP)
		return false;
	f->family = AF_INET;
	f->ttl = ip.ttl;
	f->src[0] = ip.saddr;
	f->dst[0] = ip.daddr;
	f->fragment = ip.frag_off & htons(IP_MF | IP_OFFSET);
	f->offset = (ip.ver_ihl & 15) * 4;
	total = ntohs(ip.tot_len);
	f->len = total > f->offset ? total - f->offset : 0;
	return true;
}

static __always_inline bool find6(const struct packet *p, struct found *f)
{
	struct ipv6 ip;

	if (read_packet(p, 0, &ip, sizeof(ip)) || ip.nexthdr != IPPROTO_VRRP)
		return false;
	f->family = AF_INET6;
	f->ttl = ip.hop_limit;
	for (int i = 0; i < 4; i++) {
		f->src[i] = ip.saddr[i];
		f->dst[i] = ip.daddr[i];
	}
	f->offset = sizeof(ip);
	f->len = ntohs(ip.payload_len);
	return true;
}

static __always_inline bool find(const struct packet *p, struct found *f)
{
	if (p->protocol == htons(ETH_P_IP))
		return find4(p, f);
	if (p->protocol == htons(ETH_P_IPV6))
		return find6(p, f);
	return false;
}

/* Reserves room for max bytes of PDU (a constant) and copies f there. */
static __always_inline void copy(const struct packet *p, const struct found *f, __u32 max,
				 struct advert_counters *n)
{
	struct advert_record *r;
	__u32 len = f->len;

	r = bpf_ringbuf_reserve(&tandem_adverts, sizeof(*r) + max, 0);
	if (!r) {
		n->full++;
		return;
	}
	r->at = bpf_ktime_get_ns();
	r->ifindex = p->ifindex;
	for (int i = 0; i < 4; i++) {
		r->src[i] = f->src[i];
		r->dst[i] = f->dst[i];
	}
	r->family = f->family;
	r->ttl = f->ttl;
	/*
	 * The verifier of 6.1 learns nothing from "not zero": 0..max-1, then one more,
	 * of a number of which the compiler knows nothing.
	 */
	barrier_var(len);
	len--;
	if (len < max) {
		barrier_var(len);
		len++;
		if (read_packet(p, f->offset, r + 1, len))
			len = 0;
	} else {
		len = 0;
	}
	n->malformed += !len; /* told as empty, so that user space counts it with its source */
	r->len = len;
	n->copied++;
	bpf_ringbuf_submit(r, BPF_RB_FORCE_WAKEUP);
}

/* Tells of the packet if it is an advert to this host. */
static __always_inline void received(const struct packet *p)
{
	struct advert_counters *n;
	struct found f = {};
	__u32 key = 0;

	if (!find(p, &f) || !is_ours(p))
		return;
	n = bpf_map_lookup_elem(&tandem_advstat, &key);
	if (!n)
		return;
	if (f.fragment)
		n->fragment++;
	else if (f.len <= ADVERT_SMALL)
		copy(p, &f, ADVERT_SMALL, n);
	else
		copy(p, &f, ADVERT_LARGE, n);
}

#endif
