/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What programs and user space exchange. bpf2go makes the Go side of each
 * struct from this file; package maps reads them.
 */
#ifndef TANDEM_SHARED_H
#define TANDEM_SHARED_H

#include "types.h"

/* conntrack.Tuple: IPv4 in the first four bytes, ports in host order. */
struct flow_tuple {
	__u32 src[4];
	__u32 dst[4];
	__u16 sport;
	__u16 dport;
};

enum flow_verdict {
	FLOW_IGNORE = 0,    /* never stands in a record */
	FLOW_REPLICATE = 1, /* conntrack.Replicate */
	FLOW_GONE = 2,	    /* conntrack.Gone */
};

/* One flow as tandem_flow tells it. */
struct flow_record {
	__u64 at; /* bpf_ktime_get_ns */
	struct flow_tuple orig;
	struct flow_tuple reply;
	__u32 status;
	__u32 mark;
	__u32 timeout; /* jiffies left */
	__u16 zone;
	__u8 family;
	__u8 proto;
	__u8 verdict;
	__u8 state;
	__u8 flags[2];
	__u8 scale[2];
	__u8 pad[2];
};

/* Packets by what became of them; the first nine add up to all packets. */
struct flow_counters {
	__u64 own;	   /* of a socket of this host */
	__u64 untracked;   /* no entry, or ctinfo UNTRACKED */
	__u64 unconfirmed; /* template, dying, or not in the kernel table */
	__u64 protocol;	   /* not a replicated protocol */
	__u64 matched;	   /* its cell matches: nothing new */
	__u64 young;	   /* below the age of replicate-when */
	__u64 ignored;	   /* an address to be ignored */
	__u64 told;	   /* put into the ring, refreshes and gone included */
	__u64 full;	   /* lost: the ring was full */
	__u64 gone;	   /* of told: TIME_WAIT or CLOSE */
	__u64 refreshed;   /* of told: nothing new, but told long ago */
	__u64 crowded;	   /* a flow not told found no cell (of young, ignored) */
};

/* Shared memory of tandem_flow and its reader (.bss, mapped). */
struct flow_control {
	__u32 waiting; /* the reader sleeps until woken */
	__u32 epoch;   /* another value forgets what was told */
};

struct ignore_key {
	__u32 prefixlen; /* 32 bits of family, then the address's */
	__u32 family;
	__u32 addr[4];
};

#define ADVERT_SMALL 136 /* a VRRP PDU with 32 IPv4 addresses */
#define ADVERT_LARGE 1416

/* An advert as tandem_advert copies it; len bytes of PDU follow. */
struct advert_record {
	__u64 at; /* bpf_ktime_get_ns */
	__u32 ifindex;
	__u32 src[4];
	__u32 dst[4];
	__u16 len;
	__u8 family;
	__u8 ttl;
};

struct advert_counters {
	__u64 copied;
	__u64 full;	 /* lost: the ring was full */
	__u64 malformed; /* shorter than it says, or longer than a record */
	__u64 fragment;
};

/* Packets at the fence while it is up. */
struct fence_counters {
	__u64 dropped_new;
	__u64 dropped_invalid;
	__u64 passed_known;	/* of an entry that the kernel table has */
	__u64 passed_untracked;
	__u64 passed_local;	/* to an own non-virtual address, or over lo */
	__u64 passed_link;	/* to link-local multicast, broadcast, ND */
	__u64 passed_advert;
	__u64 passed_sync;
	__u64 passed_unseen;	/* fence_tc: no TCP or UDP, no whole packet */
};

/* Shared memory of the fence (.bss, mapped). */
struct fence_control {
	__u64 deadline; /* bpf_ktime_get_ns; 0: down */
	__u32 sync_port;
};

struct own_key {
	__u32 family;
	__u32 addr[4];
};

/* A session of docs/protocol.md, as two words in the packet's order. */
struct sync_session {
	__u64 half[2];
};

/* Who may send data: an address, with the session of either side. */
struct sync_pair {
	__u32 family;
	__u32 addr[4];
	__u32 pad;
	struct sync_session theirs;
	struct sync_session mine;
};

/* A value of ours that an address may name in a hello. */
struct sync_named {
	__u32 family;
	__u32 addr[4];
	__u32 pad;
	struct sync_session mine;
};

#define SYNC_WINDOW 4096 /* sequences that a receiver remembers */
#define SYNC_WINDOWS 64	 /* pairs of which the gate remembers them */

/* What was received of a pair (mapped, written by the daemon). */
struct sync_window {
	__u64 highest;
	__u64 bits[SYNC_WINDOW / 64];
};

#define SYNC_BUCKETS 32

/* When the next hello is due, by a hash of its sender's session. */
struct sync_buckets {
	__u64 open[SYNC_BUCKETS];  /* hellos that name nothing of ours */
	__u64 named[SYNC_BUCKETS]; /* those that name a value of ours */
	__u64 calls;
};

/* What stamps are made with, of one key of the link. */
struct sync_stamp {
	__u64 key[2];
	__u64 known;
};

/* Packets at the gate by what became of them; all but the first two are
 * datagrams to the sync port. */
struct sync_counters {
	__u64 passed_other;
	__u64 passed_unseen; /* more IPv6 extension headers than it follows */
	__u64 passed_data;
	__u64 passed_hello;
	__u64 passed_call;
	__u64 dropped_fragment;
	__u64 dropped_hops;
	__u64 dropped_short;
	__u64 dropped_version; /* or no magic */
	__u64 dropped_type;
	__u64 dropped_seal;    /* sealed though it must not be, or the reverse */
	__u64 dropped_key;     /* sealed with a key that is not ours */
	__u64 dropped_forged;  /* its stamp is not the key's */
	__u64 dropped_stranger;
	__u64 dropped_session;
	__u64 dropped_replay;
	__u64 dropped_reflected;
	__u64 dropped_rate; /* hellos and calls beyond their buckets */
};

#endif
