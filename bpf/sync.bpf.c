// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

//go:build ignore

/*
 * tandem_sync: XDP of the sync link, the gate. Of datagrams to the sync port
 * it lets pass to the stack what may be of a live session, and drops the rest
 * for a few ten nanoseconds each; everything else passes.
 *
 *  1 headers: Ethernet, priority tag, IPv4 or IPv6 with its extensions, UDP
 *  2 what every datagram must be: whole, from this link, of this format, stamped
 *  3 data: of a pair of sessions that lives, and not received before
 *  4 hellos and calls: so many for each sender
 *
 * It cannot open a seal, only check a byte that is made with the key: what
 * passes is still opened, or refused, by the daemon. It may not drop what the
 * daemon would take.
 */
#include "include/shared.h"
#include "include/xdp.h"

char __license[] SEC("license") = "Dual BSD/GPL";

/* Set at load. */
const volatile __u16 port;	      /* UDP, of both ends */
const volatile __u8 seal;	      /* of the header: sealed or not */
const volatile __u8 trailer;	      /* its length then */
const volatile bool discover;	      /* strangers may say hello */
const volatile __u64 seed;	      /* nobody else knows which bucket is whose */
const volatile __u64 hello_every = 1; /* ns: the rate of one bucket */
const volatile __u64 hello_burst;     /* ns: what it may be ahead of it */
const volatile __u64 stranger_every = 1;
const volatile __u64 stranger_burst;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sync_counters);
} tandem_gated SEC(".maps");

/* Live pairs; the value is the pair's window, beyond SYNC_WINDOWS for none. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct sync_pair);
	__type(value, __u32);
} tandem_pairs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SYNC_WINDOWS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct sync_window);
} tandem_windows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2048);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct sync_named);
	__type(value, __u8);
} tandem_named SEC(".maps");

/* The addresses of peers. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct own_key);
	__type(value, struct sync_buckets);
} tandem_peers SEC(".maps");

#define STRANGERS 256

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, STRANGERS);
	__type(key, __u32);
	__type(value, __u64);
} tandem_strangers SEC(".maps");

/* By key id: what stamps are made with. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct sync_stamp);
} tandem_stamps SEC(".maps");

/* docs/protocol.md, chapter 2 */
struct datagram {
	__u16 magic;
	__u8 version;
	__u8 type;
	__u8 seal;
	__u8 key_id;
	__u8 trailer;
	__u8 stamp;
	__u64 sequence;
	struct sync_session sender;
	struct sync_session receiver;
};

#define MAGIC 0x7444
#define VERSION 1
#define TYPE_HELLO 1
#define TYPE_DATA 2
#define TYPE_CALL 3
#define HOPS 255 /* RFC 5082 */

struct packet {
	struct own_key from;
	__u32 at; /* offset of the UDP header */
	__u8 hops;
	bool fragment;
};

/* What a header says of the packet. */
enum seen {
	OTHER,	/* no datagram of the sync link */
	UNSEEN, /* it may be one, too deep to be found */
	FOUND,
};

static __always_inline int drop(__u64 *counter)
{
	(*counter)++;
	return XDP_DROP;
}

static __always_inline int pass(__u64 *counter)
{
	(*counter)++;
	return XDP_PASS;
}

static __always_inline enum seen find4(struct xdp_md *ctx, __u32 at, struct packet *p)
{
	struct ipv4 ip;

	if (bpf_xdp_load_bytes(ctx, at, &ip, sizeof(ip)) || ip.protocol != IPPROTO_UDP)
		return OTHER;
	if (ip.frag_off & htons(IP_OFFSET)) /* the first one has the port, and is dropped */
		return OTHER;
	p->fragment = ip.frag_off & htons(IP_MF);
	p->from.family = AF_INET;
	p->from.addr[0] = ip.saddr;
	p->hops = ip.ttl;
	p->at = at + (ip.ver_ihl & 15) * 4;
	return FOUND;
}

#define EXTENSIONS 6

/* Follows extension headers (RFC 8200, chapter 4) to UDP. */
static __always_inline enum seen find6(struct xdp_md *ctx, __u32 at, struct packet *p)
{
	struct ipv6 ip;
	struct {
		__u8 nexthdr;
		__u8 len;
		__u16 frag_off;
	} ext;
	__u8 next;

	if (bpf_xdp_load_bytes(ctx, at, &ip, sizeof(ip)))
		return OTHER;
	p->from.family = AF_INET6;
	for (int i = 0; i < 4; i++)
		p->from.addr[i] = ip.saddr[i];
	p->hops = ip.hop_limit;
	next = ip.nexthdr;
	at += sizeof(ip);
	for (int i = 0; i < EXTENSIONS; i++) {
		if (next == IPPROTO_UDP) {
			p->at = at;
			return FOUND;
		}
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS &&
		    next != IPPROTO_FRAGMENT && next != IPPROTO_AH)
			return OTHER;
		if (bpf_xdp_load_bytes(ctx, at, &ext, sizeof(ext)))
			return OTHER;
		if (next == IPPROTO_FRAGMENT) {
			if (ext.frag_off & htons(0xfff8)) /* as in find4() */
				return OTHER;
			p->fragment = true;
			at += 8;
		} else if (next == IPPROTO_AH) {
			at += (ext.len + 2) * 4;
		} else {
			at += (ext.len + 1) * 8;
		}
		next = ext.nexthdr;
	}
	return UNSEEN;
}

static __always_inline enum seen find(struct xdp_md *ctx, struct packet *p)
{
	__u16 protocol = 0;
	__u32 at = xdp_network(ctx, &protocol);

	if (!at)
		return OTHER;
	if (protocol == htons(ETH_P_IP))
		return find4(ctx, at, p);
	if (protocol == htons(ETH_P_IPV6))
		return find6(ctx, at, p);
	return OTHER;
}

#define ROTATE(v, n) ((v) << (n) | (v) >> (64 - (n)))

static __always_inline void sip_round(__u64 v[4])
{
	v[0] += v[1];
	v[2] += v[3];
	v[1] = ROTATE(v[1], 13) ^ v[0];
	v[3] = ROTATE(v[3], 16) ^ v[2];
	v[0] = ROTATE(v[0], 32) + v[3];
	v[2] += v[1];
	v[1] = ROTATE(v[1], 17) ^ v[2];
	v[3] = ROTATE(v[3], 21) ^ v[0];
	v[2] = ROTATE(v[2], 32);
}

/* SipHash-2-4 of a header without its stamp (internal/link, stamp.go). */
static __always_inline __u8 stamp_of(const struct datagram *d, const struct sync_stamp *k)
{
	union {
		struct datagram d;
		__u64 words[sizeof(struct datagram) / 8];
	} m = { .d = *d };
	__u64 v[4] = { k->key[0] ^ 0x736f6d6570736575ULL, k->key[1] ^ 0x646f72616e646f6dULL,
		       k->key[0] ^ 0x6c7967656e657261ULL, k->key[1] ^ 0x7465646279746573ULL };

	m.d.stamp = 0;
	for (__u32 i = 0; i <= sizeof(m) / 8; i++) {
		__u64 word = i < sizeof(m) / 8 ? m.words[i] : (__u64)sizeof(m) << 56;

		v[3] ^= word;
		sip_round(v);
		sip_round(v);
		v[0] ^= word;
	}
	v[2] ^= 0xff;
	for (int i = 0; i < 4; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* Whether the pair's window has room for a sequence (syncproto, received). */
static __always_inline bool is_fresh(__u32 slot, __u64 sequence)
{
	struct sync_window *w = bpf_map_lookup_elem(&tandem_windows, &slot);
	__u64 highest;

	if (!w)
		return true;
	highest = READ_ONCE(w->highest);
	if (sequence > highest)
		return true;
	if (!sequence || highest - sequence >= SYNC_WINDOW)
		return false;
	return !(READ_ONCE(w->bits[sequence / 64 % (SYNC_WINDOW / 64)]) >> (sequence % 64) & 1);
}

/* The window of the datagram's pair if that lives, else NULL. */
static __always_inline __u32 *pair_of(const struct packet *p, const struct datagram *d)
{
	struct sync_pair key = { .family = p->from.family, .theirs = d->sender, .mine = d->receiver };

	for (int i = 0; i < 4; i++)
		key.addr[i] = p->from.addr[i];
	return bpf_map_lookup_elem(&tandem_pairs, &key);
}

static __always_inline bool is_named(const struct packet *p, const struct sync_session *value)
{
	struct sync_named key = { .family = p->from.family, .mine = *value };

	for (int i = 0; i < 4; i++)
		key.addr[i] = p->from.addr[i];
	return bpf_map_lookup_elem(&tandem_named, &key) != NULL;
}

static __always_inline __u32 hash(__u64 a, __u64 b)
{
	__u64 h = a ^ seed;

	h = (h ^ h >> 32) * 0x9e3779b97f4a7c15ULL;
	h = (h ^ b ^ h >> 29) * 0xbf58476d1ce4e5b9ULL;
	return h >> 40;
}

/*
 * A token bucket in one word: when the next token is due (the virtual
 * scheduling of GCRA). Who loses the race for it goes without.
 */
static __always_inline bool take(__u64 *due, __u64 every, __u64 burst)
{
	__u64 now = bpf_ktime_get_ns(), old = READ_ONCE(*due), from = old > now ? old : now;

	if (from - now > burst)
		return false;
	return __sync_val_compare_and_swap(due, old, from + every) == old;
}

static __always_inline int judge_data(const struct packet *p, const struct datagram *d, struct sync_counters *n)
{
	__u32 *window = pair_of(p, d);

	if (!window)
		return drop(&n->dropped_session);
	if (!is_fresh(*window, __builtin_bswap64(d->sequence)))
		return drop(&n->dropped_replay);
	return pass(&n->passed_data);
}

/* The counter of what no key of ours has stamped, NULL for the rest. */
static __always_inline __u64 *unstamped(const struct datagram *d, struct sync_counters *n)
{
	__u32 id = d->key_id;
	struct sync_stamp *k = bpf_map_lookup_elem(&tandem_stamps, &id);

	if (!k || !k->known)
		return &n->dropped_key;
	return stamp_of(d, k) == d->stamp ? NULL : &n->dropped_forged;
}

/*
 * Where peers are found, an address that is none's may say a little; the number
 * of buckets bounds what all of them say.
 */
static __always_inline int judge_stranger(const struct packet *p, __u64 *passed, struct sync_counters *n)
{
	__u64 a = (__u64)p->from.addr[0] << 32 | p->from.addr[1];
	__u64 b = (__u64)p->from.addr[2] << 32 | p->from.addr[3];
	__u32 key = hash(a, b) % STRANGERS;
	__u64 *due = bpf_map_lookup_elem(&tandem_strangers, &key);

	if (!discover || !due)
		return drop(&n->dropped_stranger);
	if (!take(due, stranger_every, stranger_burst))
		return drop(&n->dropped_rate);
	return pass(passed);
}

/*
 * Hellos of peers' addresses, which anybody on the link can write. A sender
 * keeps its session while it says hello, so buckets go by that: one invented
 * or recorded session starves at most its own bucket. Hellos that name a value
 * of ours have buckets of their own: for these one has to see the link.
 */
static __always_inline int judge_hello(const struct packet *p, const struct datagram *d, struct sync_counters *n)
{
	struct sync_buckets *buckets = bpf_map_lookup_elem(&tandem_peers, &p->from);
	__u32 i = hash(d->sender.half[0], d->sender.half[1]) % SYNC_BUCKETS;
	__u32 *window;

	if (!buckets)
		return judge_stranger(p, &n->passed_hello, n);
	if (is_named(p, &d->sender))
		return drop(&n->dropped_reflected);
	window = pair_of(p, d);
	if (window && !is_fresh(*window, __builtin_bswap64(d->sequence)))
		return drop(&n->dropped_replay);
	if (!take(is_named(p, &d->receiver) ? &buckets->named[i] : &buckets->open[i], hello_every, hello_burst))
		return drop(&n->dropped_rate);
	return pass(&n->passed_hello);
}

/* Calls only tell an address and a name. */
static __always_inline int judge_call(const struct packet *p, struct sync_counters *n)
{
	struct sync_buckets *buckets = bpf_map_lookup_elem(&tandem_peers, &p->from);

	if (!buckets)
		return judge_stranger(p, &n->passed_call, n);
	if (!take(&buckets->calls, hello_every, hello_burst))
		return drop(&n->dropped_rate);
	return pass(&n->passed_call);
}

static __always_inline int judge(struct xdp_md *ctx, const struct packet *p, const struct udp *udp,
				 struct sync_counters *n)
{
	struct datagram d;
	__u64 *why;

	if (p->fragment)
		return drop(&n->dropped_fragment);
	if (p->hops != HOPS)
		return drop(&n->dropped_hops);
	if (udp->sport != udp->dport)
		return drop(&n->dropped_stranger);
	if (ntohs(udp->len) < sizeof(*udp) + sizeof(d) ||
	    bpf_xdp_load_bytes(ctx, p->at + sizeof(*udp), &d, sizeof(d)))
		return drop(&n->dropped_short);
	if (d.magic != htons(MAGIC) || d.version != VERSION)
		return drop(&n->dropped_version);
	if (d.seal != seal || d.trailer != trailer)
		return drop(&n->dropped_seal);
	if (ntohs(udp->len) < sizeof(*udp) + sizeof(d) + trailer)
		return drop(&n->dropped_short);
	if (seal) {
		why = unstamped(&d, n);
		if (why)
			return drop(why);
	}
	switch (d.type) {
	case TYPE_DATA:
		return judge_data(p, &d, n);
	case TYPE_HELLO:
		return judge_hello(p, &d, n);
	case TYPE_CALL:
		return judge_call(p, n);
	}
	return drop(&n->dropped_type);
}

SEC("xdp.frags")
int tandem_sync(struct xdp_md *ctx)
{
	struct sync_counters *n;
	struct packet p = {};
	struct udp udp;
	__u32 key = 0;

	n = bpf_map_lookup_elem(&tandem_gated, &key);
	if (!n)
		return XDP_PASS;
	switch (find(ctx, &p)) {
	case FOUND:
		break;
	case UNSEEN:
		return pass(&n->passed_unseen);
	default:
		return pass(&n->passed_other);
	}
	if (bpf_xdp_load_bytes(ctx, p.at, &udp, sizeof(udp)) || udp.dport != htons(port))
		return pass(&n->passed_other);
	return judge(ctx, &p, &udp, n);
}
