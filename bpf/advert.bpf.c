// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

//go:build ignore

/*
 * tandem_advert: TC ingress of a group's interface. Copies VRRP adverts (IP
 * protocol 112) with kernel time into a ring and passes every packet on.
 */
#include "include/advert.h"

char __license[] SEC("license") = "Dual BSD/GPL";

/*
 * The helper reads what is in one piece. Of most cards that is the headers at
 * least; a long advert may have to be put together first.
 */
static __always_inline long read_packet(const struct packet *p, __u32 off, void *to, __u32 len)
{
	struct __sk_buff *skb = p->ctx;
	long err = bpf_skb_load_bytes_relative(skb, off, to, len, BPF_HDR_START_NET);

	if (!err)
		return 0;
	err = bpf_skb_pull_data(skb, skb->len);
	if (err)
		return err;
	return bpf_skb_load_bytes_relative(skb, off, to, len, BPF_HDR_START_NET);
}

/* Of this interface, not of a VLAN on it. */
static __always_inline bool is_ours(const struct packet *p)
{
	struct __sk_buff *skb = p->ctx;

	if (skb->pkt_type == PACKET_OTHERHOST)
		return false;
	return !skb->vlan_present || !(skb->vlan_tci & 0x0fff);
}

SEC("tc")
int tandem_advert(struct __sk_buff *skb)
{
	struct packet p = { .ctx = skb, .ifindex = skb->ifindex, .protocol = skb->protocol };

	received(&p);
	return TC_NEXT;
}
