/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What both fences share: the deadline, the counters, and what passes because
 * of where it goes.
 */
#ifndef TANDEM_FENCE_H
#define TANDEM_FENCE_H

#include "shared.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct fence_counters);
} tandem_fenced SEC(".maps");

/* This node's own addresses, without the virtual ones. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct own_key);
	__type(value, __u8);
} tandem_own SEC(".maps");

struct fence_control control;

/* Up until the deadline: a crash cannot leave it up. */
static __always_inline bool fence_up(void)
{
	__u64 deadline = READ_ONCE(control.deadline);

	return deadline && bpf_ktime_get_ns() < deadline;
}

static __always_inline struct fence_counters *fence_count(void)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&tandem_fenced, &key);
}

static __always_inline bool is_own(__u32 family, const __u32 addr[4])
{
	struct own_key key = { .family = family, .addr = { addr[0], addr[1], addr[2], addr[3] } };

	return bpf_map_lookup_elem(&tandem_own, &key) != 0;
}

/* 224.0.0.0/24, 255.255.255.255, ff02::/16: never forwarded, never translated. */
static __always_inline bool is_link_local(__u32 family, __u32 first)
{
	if (family == AF_INET)
		return (first & htonl(0xffffff00)) == htonl(0xe0000000) || first == ~0U;
	return (first & htonl(0xffff0000)) == htonl(0xff020000);
}

static __always_inline bool is_multicast(__u32 family, __u32 first)
{
	if (family == AF_INET)
		return (first & htonl(0xf0000000)) == htonl(0xe0000000);
	return (first & htonl(0xff000000)) == htonl(0xff000000);
}

/* ND and router discovery: RFC 4861 section 4, RFC 3810 (MLD), types 130 to 137, 143 */
static __always_inline bool is_nd(__u8 type)
{
	return (type >= 130 && type <= 137) || type == 143;
}

/* Where a packet goes, in the words of its headers. */
struct dest {
	__u32 addr[4];
	__u32 family;
	__u8 proto;
};

/* Passes whatever the kernel table says, and counts why. */
static __always_inline bool passes_by_dest(const struct dest *d, struct fence_counters *n)
{
	if (d->proto == IPPROTO_VRRP) {
		n->passed_advert++;
		return true;
	}
	if (is_link_local(d->family, d->addr[0])) {
		n->passed_link++;
		return true;
	}
	if (is_own(d->family, d->addr)) {
		n->passed_local++;
		return true;
	}
	return false;
}

/* Hellos of the sync link go to a multicast group that is not link-local. */
static __always_inline bool is_sync(const struct dest *d, __u16 dport)
{
	return d->proto == IPPROTO_UDP && control.sync_port && ntohs(dport) == control.sync_port &&
	       is_multicast(d->family, d->addr[0]);
}

#endif
