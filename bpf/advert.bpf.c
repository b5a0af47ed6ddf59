// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

//go:build ignore

/*
 * tandem_advert: TC ingress of a group's interface. Copies VRRP adverts (IP
 * protocol 112) with kernel time into a ring and passes every packet on.
 */
#include "include/shared.h"

char __license[] SEC("license") = "Dual BSD/GPL";

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

/* Where a packet's PDU stands, and who sent it. */
struct found {
	__u32 src[4];
	__u32 dst[4];
	__u32 offset;
	__u32 len;
	__u8 family;
	__u8 ttl;
};

static __always_inline bool find4(struct __sk_buff *skb, struct found *f, struct advert_counters *n)
{
	struct ipv4 ip;
	__u32 total;

	if (bpf_skb_load_bytes_relative(skb, 0, &ip, sizeof(ip), BPF_HDR_START_NET))
		return false;
	if (ip.protocol != IPPROTO_VRRP)
		return false;
	if (ip.frag_off & htons(IP_MF | IP_OFFSET)) {
		n->fragment++;
		return false;
	}
	f->family = AF_INET;
	f->ttl = ip.ttl;
	f->src[0] = ip.saddr;
	f->dst[0] = ip.daddr;
	f->offset = (ip.ver_ihl & 15) * 4;
	total = ntohs(ip.tot_len);
	f->len = total > f->offset ? total - f->offset : 0;
	return true;
}

static __always_inline bool find6(struct __sk_buff *skb, struct found *f)
{
	struct ipv6 ip;

	if (bpf_skb_load_bytes_relative(skb, 0, &ip, sizeof(ip), BPF_HDR_START_NET))
		return false;
	if (ip.nexthdr != IPPROTO_VRRP)
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

/* Reserves room for max bytes of PDU (a constant) and copies f there. */
static __always_inline void copy(struct __sk_buff *skb, struct found *f, __u32 max,
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
	r->ifindex = skb->ifindex;
	for (int i = 0; i < 4; i++) {
		r->src[i] = f->src[i];
		r->dst[i] = f->dst[i];
	}
	r->family = f->family;
	r->ttl = f->ttl;
	/* The verifier of 6.1 learns nothing from "not zero": 0..max-1, then one more. */
	len--;
	if (len < max) {
		barrier_var(len);
		len++;
		if (bpf_skb_load_bytes_relative(skb, f->offset, r + 1, len, BPF_HDR_START_NET))
			len = 0;
	} else {
		len = 0;
	}
	n->malformed += !len; /* told as empty, so that user space counts it with its source */
	r->len = len;
	n->copied++;
	bpf_ringbuf_submit(r, BPF_RB_FORCE_WAKEUP);
}

/* Ingress of this interface, not of a VLAN on it, and meant for this host. */
static __always_inline bool ours(struct __sk_buff *skb)
{
	if (skb->pkt_type == PACKET_OTHERHOST)
		return false;
	return !skb->vlan_present || !(skb->vlan_tci & 0x0fff);
}

static __always_inline void received(struct __sk_buff *skb)
{
	struct advert_counters *n;
	struct found f = {};
	__u32 key = 0;

	n = bpf_map_lookup_elem(&tandem_advstat, &key);
	if (!n || !ours(skb))
		return;
	if (skb->protocol == htons(ETH_P_IP)) {
		if (!find4(skb, &f, n))
			return;
	} else if (skb->protocol != htons(ETH_P_IPV6) || !find6(skb, &f)) {
		return;
	}
	if (f.len <= ADVERT_SMALL)
		copy(skb, &f, ADVERT_SMALL, n);
	else
		copy(skb, &f, ADVERT_LARGE, n);
}

SEC("tc")
int tandem_advert(struct __sk_buff *skb)
{
	received(skb);
	return TC_NEXT;
}
