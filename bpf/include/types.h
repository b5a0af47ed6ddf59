/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Fixed-width types, sections and the BPF helpers that tandem calls. Own, so
 * that objects depend on nothing but the pinned clang.
 */
#ifndef TANDEM_TYPES_H
#define TANDEM_TYPES_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

#define SEC(name) __attribute__((section(name), used))
#define __always_inline inline __attribute__((always_inline))
#define __weak __attribute__((weak))
#define __ksym __attribute__((section(".ksyms")))
#define CORE __attribute__((preserve_access_index))

#define READ_ONCE(x) (*(const volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))
#define barrier_var(v) asm volatile("" : "+r"(v))
#define ntohs(x) ((__u16)__builtin_bswap16(x))
#define htons(x) ntohs(x)
#define htonl(x) ((__u32)__builtin_bswap32(x))

/* Keeps a type in the object's BTF that no map or global names, for bpf2go. */
#define EXPORT_TYPE(name) const struct name *const volatile type_##name = 0

/* Map definitions in BTF form, as libbpf and cilium/ebpf read them. */
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name

/* uapi/linux/bpf.h: enum bpf_map_type and flags, the ones we use */
#define BPF_MAP_TYPE_HASH 1
#define BPF_MAP_TYPE_ARRAY 2
#define BPF_MAP_TYPE_PERCPU_ARRAY 6
#define BPF_MAP_TYPE_LPM_TRIE 11
#define BPF_MAP_TYPE_RINGBUF 27
#define BPF_F_NO_PREALLOC 1U
#define BPF_F_MMAPABLE 1024U
#define BPF_RB_NO_WAKEUP 1U
#define BPF_RB_FORCE_WAKEUP 2U
#define BPF_HDR_START_NET 1
#define BPF_F_CURRENT_NETNS (-1)

/* TC_ACT_UNSPEC and TCX_NEXT: the packet goes to the next program or filter. */
#define TC_NEXT (-1)
#define TC_SHOT 2

#define XDP_DROP 1
#define XDP_PASS 2

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static __u64 (*const bpf_ktime_get_ns)(void) = (void *)5;
static long (*const bpf_skb_load_bytes)(const void *skb, __u32 off, void *to, __u32 len) = (void *)26;
static long (*const bpf_skb_pull_data)(void *skb, __u32 len) = (void *)39;
static long (*const bpf_skb_load_bytes_relative)(const void *skb, __u32 off, void *to, __u32 len,
						  __u32 start) = (void *)68;
static long (*const bpf_probe_read_kernel)(void *dst, __u32 size, const void *src) = (void *)113;
static __u64 (*const bpf_jiffies64)(void) = (void *)118;
static void *(*const bpf_ringbuf_reserve)(void *ring, __u64 size, __u64 flags) = (void *)131;
static void (*const bpf_ringbuf_submit)(void *data, __u64 flags) = (void *)132;
static long (*const bpf_xdp_load_bytes)(const void *xdp, __u32 off, void *to, __u32 len) = (void *)189;

/* uapi/linux/bpf.h: struct __sk_buff, up to the last field that we read */
struct __sk_buff {
	__u32 len;
	__u32 pkt_type;
	__u32 mark;
	__u32 queue_mapping;
	__u32 protocol;
	__u32 vlan_present;
	__u32 vlan_tci;
	__u32 vlan_proto;
	__u32 priority;
	__u32 ingress_ifindex;
	__u32 ifindex;
	__u32 tc_index;
	__u32 cb[5];
	__u32 hash;
	__u32 tc_classid;
	__u32 data;
	__u32 data_end;
	__u32 napi_id;
	__u32 family;
	__u32 remote_ip4;
	__u32 local_ip4;
	__u32 remote_ip6[4];
	__u32 local_ip6[4];
	__u32 remote_port;
	__u32 local_port;
	__u32 data_meta;
	__u64 flow_keys;
	__u64 tstamp;
	__u32 wire_len;
	__u32 gso_segs;
	__u64 sk; /* NULL unless the packet belongs to a socket of this host */
};

/* ... struct xdp_md, up to the last field that we read */
struct xdp_md {
	__u32 data;
	__u32 data_end;
	__u32 data_meta;
	__u32 ingress_ifindex;
};

#define PACKET_OTHERHOST 3 /* uapi/linux/if_packet.h */

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86DD
#define ETH_P_8021Q 0x8100
#define ETH_P_8021AD 0x88A8
#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_ICMP 1
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_ICMPV6 58
#define IPPROTO_HOPOPTS 0
#define IPPROTO_ROUTING 43
#define IPPROTO_FRAGMENT 44
#define IPPROTO_AH 51
#define IPPROTO_DSTOPTS 60
#define IPPROTO_VRRP 112

#define ETH_ALEN 6

/* The headers of IEEE 802.3, RFC 791 and RFC 8200 as they stand in the packet. */
struct ethernet {
	__u8 to[ETH_ALEN];
	__u8 from[ETH_ALEN];
	__u16 protocol;
} __attribute__((packed));

struct ipv4 {
	__u8 ver_ihl;
	__u8 tos;
	__u16 tot_len;
	__u16 id;
	__u16 frag_off;
	__u8 ttl;
	__u8 protocol;
	__u16 check;
	__u32 saddr;
	__u32 daddr;
};

struct ipv6 {
	__u32 flow;
	__u16 payload_len;
	__u8 nexthdr;
	__u8 hop_limit;
	__u32 saddr[4];
	__u32 daddr[4];
};

/* RFC 768. */
struct udp {
	__u16 sport;
	__u16 dport;
	__u16 len;
	__u16 check;
};

#define IP_MF 0x2000
#define IP_OFFSET 0x1FFF

#endif
