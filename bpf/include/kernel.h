/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The fields of kernel structures that tandem reads, and no others. Offsets
 * are relocated at load (CO-RE), so only names and types must agree. Checked
 * from 6.1 to 6.18.
 */
#ifndef TANDEM_KERNEL_H
#define TANDEM_KERNEL_H

#include "types.h"

/* include/linux/skbuff.h: the entry's address, its low three bits ctinfo */
#define NFCT_INFO 7UL

/* include/uapi/linux/netfilter/nf_conntrack_common.h: enum ip_conntrack_info */
#define IP_CT_NEW 2
#define IP_CT_UNTRACKED 7

/* ... enum ip_conntrack_status */
#define IPS_SEEN_REPLY (1U << 1)
#define IPS_ASSURED (1U << 2)
#define IPS_CONFIRMED (1U << 3)
#define IPS_SRC_NAT (1U << 4)
#define IPS_DST_NAT (1U << 5)
#define IPS_SEQ_ADJUST (1U << 6)
#define IPS_DYING (1U << 9)
#define IPS_FIXED_TIMEOUT (1U << 10)
#define IPS_TEMPLATE (1U << 11)
#define IPS_HELPER (1U << 13)

/* include/uapi/linux/netfilter/nf_conntrack_tcp.h: enum tcp_conntrack */
#define TCP_CONNTRACK_TIME_WAIT 7
#define TCP_CONNTRACK_CLOSE 8

struct net_device {
	int ifindex;
	const unsigned char *dev_addr;
} CORE;

/* include/net/xdp.h: what an XDP program's context is */
struct xdp_rxq_info {
	struct net_device *dev;
} CORE;

struct xdp_buff {
	struct xdp_rxq_info *rxq;
} CORE;

struct sk_buff {
	unsigned long _nfct;
	unsigned char *head;
	__u16 network_header;
} CORE;

struct nf_conntrack_zone {
	__u16 id;
} CORE;

union nf_inet_addr {
	__u32 all[4];
};

struct nf_conntrack_man {
	union nf_inet_addr u3;
	union {
		__u16 all;
	} u;
	__u16 l3num;
} CORE;

struct nf_conntrack_tuple {
	struct nf_conntrack_man src;
	struct {
		union nf_inet_addr u3;
		union {
			__u16 all;
		} u;
		__u8 protonum;
	} dst;
} CORE;

struct nf_conntrack_tuple_hash {
	struct nf_conntrack_tuple tuple;
} CORE;

struct ip_ct_tcp_state {
	__u8 td_scale;
	__u8 flags;
} CORE;

struct ip_ct_tcp {
	struct ip_ct_tcp_state seen[2];
	__u8 state;
} CORE;

union nf_conntrack_proto {
	struct ip_ct_tcp tcp;
} CORE;

struct nf_conn {
	__u32 timeout; /* jiffies, low 32 bits; see nf_ct_expires() */
	struct nf_conntrack_zone zone; /* CONFIG_NF_CONNTRACK_ZONES */
	struct nf_conntrack_tuple_hash tuplehash[2];
	unsigned long status;
	__u32 mark; /* CONFIG_NF_CONNTRACK_MARK */
	union nf_conntrack_proto proto;
} CORE;

/* include/linux/netfilter.h, net/netfilter/nf_bpf_link.c (6.4) */
struct nf_hook_state {
	struct net_device *in;
} CORE;

struct bpf_nf_ctx {
	const struct nf_hook_state *state;
	struct sk_buff *skb;
};

#define FIELD_EXISTS(f) __builtin_preserve_field_info(f, 2 /* BPF_FIELD_EXISTS */)

/* A field of a kernel structure by helper: what every kernel since 5.5 can do. */
#define CORE_READ(p, f)                                                        \
	({                                                                     \
		typeof((p)->f) __v;                                            \
		bpf_probe_read_kernel(&__v, sizeof(__v), (const void *)&(p)->f); \
		__v;                                                           \
	})

#endif
