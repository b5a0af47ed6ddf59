// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

//go:build ignore

/*
 * tandem_flow: TC egress of every forwarding interface. Reads the entry of a
 * forwarded packet (confirmed, after NAT) and puts it into the ring if the
 * policy replicates it and it differs from what was told.
 *
 *  1. packets without a usable entry leave
 *  2. packets whose cell matches leave: nearly all
 *  3. the policy decides on what changed
 *  4. the entry is told, then its cell written; never when the ring is full
 *
 * Never changes, drops or answers a packet.
 */
#include "include/kernel.h"
#include "include/shared.h"

char __license[] SEC("license") = "Dual BSD/GPL";

/*
 * A cell stands for one entry. id: upper half from the entry's address, lower
 * half from its content; both keyed, so that no kernel address leaves the
 * program. One 64-bit store: a match is never made of two halves.
 */
struct cell {
	__u64 id;
	__u32 when; /* jiffies of the last telling */
	__u32 told; /* 0: seen, but nothing was told or it is gone */
};

/* Four ways, one cache line. */
#define WAYS 4
struct cells {
	struct cell way[WAYS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1); /* power of two, set at load */
	__type(key, __u32);
	__type(value, struct cells);
} tandem_cells SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22); /* 37,000 records */
} tandem_flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_counters);
} tandem_packets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct ignore_key);
	__type(value, __u8);
} tandem_ignore SEC(".maps");

/* Settings of one load: constants, so the verifier removes what is off. */
const volatile __u64 secret[3];	      /* of this load */
const volatile __u32 cell_mask;	      /* sets - 1 */
const volatile __u64 protocols[4];    /* bitmap of replicated protocols */
const volatile __u32 age_tcp;	      /* status bits a flow must have to be told */
const volatile __u32 age_other;
const volatile __u32 ignores;	      /* tandem_ignore is not empty */
const volatile __u32 refresh = 60000; /* jiffies after which the same is told again */
const volatile __u32 nf_conn_id;      /* BTF id of struct nf_conn; 0: read by helper */
const volatile __u64 test_entry;      /* tests: this entry instead of the packet's */

struct flow_control control;

EXPORT_TYPE(flow_record);

/* Direct loads instead of helper calls, where the kernel has them (6.2). */
extern void *bpf_cast_to_kern_ctx(void *obj) __weak __ksym;
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __weak __ksym;

#define CT_READ(ct, f) (nf_conn_id ? (ct)->f : CORE_READ(ct, f))

/* What a signature covers: a change of anything else is not told. */
#define STATUS_TOLD                                                        \
	(IPS_SEEN_REPLY | IPS_ASSURED | IPS_SRC_NAT | IPS_DST_NAT |        \
	 IPS_SEQ_ADJUST | IPS_FIXED_TIMEOUT | IPS_HELPER)

/* An entry's fields as far as every packet needs them. */
struct seen {
	struct nf_conn *ct;
	__u64 id;
	__u32 status;
	__u32 mark;
	__u8 proto;
	__u8 state; /* TCP, else 0 */
};

static __always_inline __u64 mix(__u64 v, __u64 key)
{
	v = (v ^ key) * 0xff51afd7ed558ccdULL;
	v ^= v >> 32;
	v *= 0xc4ceb9fe1a85ec53ULL;
	return v ^ v >> 29;
}

static __always_inline __u64 nfct_of(struct __sk_buff *skb)
{
	struct sk_buff *k;

	if (test_entry)
		return test_entry;
	if (nf_conn_id) {
		k = bpf_cast_to_kern_ctx(skb);
		return k->_nfct;
	}
	k = (struct sk_buff *)skb;
	return CORE_READ(k, _nfct);
}

static __always_inline __u32 mark_of(struct nf_conn *ct)
{
	return FIELD_EXISTS(ct->mark) ? CT_READ(ct, mark) : 0;
}

/* The original tuple in one word: tells lives of one address apart. */
static __always_inline __u64 tuple_word(struct nf_conn *ct)
{
	__u64 src = CT_READ(ct, tuplehash[0].tuple.src.u3.all[0]);
	__u64 dst = CT_READ(ct, tuplehash[0].tuple.dst.u3.all[0]);
	__u64 sport = CT_READ(ct, tuplehash[0].tuple.src.u.all);
	__u64 dport = CT_READ(ct, tuplehash[0].tuple.dst.u.all);

	return (src | dst << 32) ^ (sport << 16 | dport << 48);
}

/* Fills s; false with the reason counted if the packet is none of ours. */
static __always_inline bool look(struct __sk_buff *skb, struct seen *s, struct flow_counters *n)
{
	__u64 v;

	/* ip_forward() drops what has a socket: it never is a forwarded packet. */
	if (skb->sk && !test_entry) {
		n->own++;
		return false;
	}
	v = nfct_of(skb);
	if (v <= NFCT_INFO) {
		n->untracked++;
		return false;
	}
	s->ct = (struct nf_conn *)(v & ~NFCT_INFO);
	if (nf_conn_id)
		s->ct = bpf_rdonly_cast(s->ct, nf_conn_id);
	s->proto = CT_READ(s->ct, tuplehash[0].tuple.dst.protonum);
	if (!(protocols[s->proto >> 6] >> (s->proto & 63) & 1)) {
		n->protocol++;
		return false;
	}
	s->status = CT_READ(s->ct, status);
	if ((s->status & (IPS_CONFIRMED | IPS_DYING | IPS_TEMPLATE)) != IPS_CONFIRMED) {
		n->unconfirmed++;
		return false;
	}
	s->state = s->proto == IPPROTO_TCP ? CT_READ(s->ct, proto.tcp.state) : 0;
	s->mark = mark_of(s->ct);
	v &= ~NFCT_INFO;
	s->id = mix(v, secret[0]);
	return true;
}

/* The lower half of a cell's id: the content, keyed. */
static __always_inline __u32 signature(struct seen *s)
{
	__u64 v = (__u64)s->mark << 32 | (s->status & STATUS_TOLD) << 8 | s->state;

	v = mix(v, secret[1] + READ_ONCE(control.epoch));
	return mix(v ^ tuple_word(s->ct), secret[2]) >> 32;
}

static __always_inline bool ignored_addr(__u32 family, const union nf_inet_addr *a)
{
	struct ignore_key key = {
		.prefixlen = family == AF_INET ? 64 : 160,
		.family = htonl(family),
		.addr = { a->all[0], a->all[1], a->all[2], a->all[3] },
	};

	return bpf_map_lookup_elem(&tandem_ignore, &key) != 0;
}

static __always_inline bool is_ignored(struct nf_conn *ct)
{
	__u32 family = CORE_READ(ct, tuplehash[0].tuple.src.l3num);
	union nf_inet_addr a;

	a = CORE_READ(ct, tuplehash[0].tuple.src.u3);
	if (ignored_addr(family, &a))
		return true;
	a = CORE_READ(ct, tuplehash[0].tuple.dst.u3);
	if (ignored_addr(family, &a))
		return true;
	a = CORE_READ(ct, tuplehash[1].tuple.src.u3);
	if (ignored_addr(family, &a))
		return true;
	a = CORE_READ(ct, tuplehash[1].tuple.dst.u3);
	return ignored_addr(family, &a);
}

/* The policy: conntrack.Policy.Match is its other executor. Gone has the same
 * conditions, since only what could have been told can be gone.
 */
static __always_inline enum flow_verdict judge(struct seen *s, struct flow_counters *n)
{
	__u32 age = s->proto == IPPROTO_TCP ? age_tcp : age_other;

	if ((s->status & age) != age) {
		n->young++;
		return FLOW_IGNORE;
	}
	if (ignores && is_ignored(s->ct)) {
		n->ignored++;
		return FLOW_IGNORE;
	}
	if (s->state == TCP_CONNTRACK_TIME_WAIT || s->state == TCP_CONNTRACK_CLOSE)
		return FLOW_GONE;
	return FLOW_REPLICATE;
}

static __always_inline void copy_tuple(struct flow_tuple *to, union nf_inet_addr *src,
				       union nf_inet_addr *dst, __u16 sport, __u16 dport)
{
	for (int i = 0; i < 4; i++) {
		to->src[i] = src->all[i];
		to->dst[i] = dst->all[i];
	}
	to->sport = ntohs(sport);
	to->dport = ntohs(dport);
}

#define COPY_TUPLE(to, ct, dir)                                                      \
	do {                                                                         \
		union nf_inet_addr __s = CORE_READ(ct, tuplehash[dir].tuple.src.u3); \
		union nf_inet_addr __d = CORE_READ(ct, tuplehash[dir].tuple.dst.u3); \
		copy_tuple(to, &__s, &__d,                                           \
			   CORE_READ(ct, tuplehash[dir].tuple.src.u.all),            \
			   CORE_READ(ct, tuplehash[dir].tuple.dst.u.all));           \
	} while (0)

static __always_inline void fill(struct flow_record *r, struct seen *s, enum flow_verdict verdict)
{
	struct nf_conn *ct = s->ct;

	r->at = bpf_ktime_get_ns();
	COPY_TUPLE(&r->orig, ct, 0);
	COPY_TUPLE(&r->reply, ct, 1);
	r->status = s->status;
	r->mark = s->mark;
	r->timeout = CORE_READ(ct, timeout) - (__u32)bpf_jiffies64();
	r->zone = FIELD_EXISTS(ct->zone) ? CORE_READ(ct, zone.id) : 0;
	r->family = CORE_READ(ct, tuplehash[0].tuple.src.l3num);
	r->proto = s->proto;
	r->verdict = verdict;
	r->state = s->state;
	r->flags[0] = r->flags[1] = r->scale[0] = r->scale[1] = 0;
	r->pad[0] = r->pad[1] = 0;
	if (s->proto != IPPROTO_TCP)
		return;
	r->flags[0] = CORE_READ(ct, proto.tcp.seen[0].flags);
	r->flags[1] = CORE_READ(ct, proto.tcp.seen[1].flags);
	r->scale[0] = CORE_READ(ct, proto.tcp.seen[0].td_scale);
	r->scale[1] = CORE_READ(ct, proto.tcp.seen[1].td_scale);
}

/*
 * Puts the entry into the ring; false if it is full. The reader is woken only
 * if it said that it sleeps. It says so, then looks for reserved records; we
 * reserve, then look at what it said: one of the two sees the other.
 */
static __always_inline bool tell(struct seen *s, enum flow_verdict verdict, struct flow_counters *n)
{
	struct flow_record *r;

	r = bpf_ringbuf_reserve(&tandem_flows, sizeof(*r), 0);
	if (!r) {
		n->full++;
		return false;
	}
	fill(r, s, verdict);
	bpf_ringbuf_submit(r, __sync_lock_test_and_set(&control.waiting, 0) ?
				      BPF_RB_FORCE_WAKEUP :
				      BPF_RB_NO_WAKEUP);
	n->told++;
	n->gone += verdict == FLOW_GONE;
	return true;
}

/*
 * The way for an entry that has none: an empty one, else one of which nothing
 * was told, else the one told longest ago. A flow of which nothing is told
 * takes none of the last kind unless it is idle: a flood of them costs the
 * others nothing.
 */
static __always_inline struct cell *victim(struct cells *set, __u32 now, bool to_tell)
{
	struct cell *best = &set->way[0];
	__u32 idle, most = 0;

	for (int i = 0; i < WAYS; i++) {
		struct cell *c = &set->way[i];

		idle = c->told ? now - c->when : ~0U;
		if (idle >= most) {
			most = idle;
			best = c;
		}
	}
	return to_tell || most > 2 * refresh ? best : 0;
}

static __always_inline void write_cell(struct cell *c, __u64 id, __u32 now, bool told)
{
	WRITE_ONCE(c->when, now);
	WRITE_ONCE(c->told, told);
	WRITE_ONCE(c->id, id);
}

/* Nothing new since it was told; told again when that was long ago. */
static __always_inline void matched(struct cell *c, struct seen *s, struct flow_counters *n)
{
	__u32 now = bpf_jiffies64();

	if (!c->told || now - c->when < refresh) {
		n->matched++;
		return;
	}
	if (!tell(s, FLOW_REPLICATE, n))
		return;
	n->refreshed++;
	WRITE_ONCE(c->when, now);
}

/* Something is new. c is the entry's own cell, or NULL. */
static __always_inline void changed(struct cells *set, struct cell *c, struct seen *s,
				    struct flow_counters *n)
{
	enum flow_verdict verdict = judge(s, n);
	__u32 now = bpf_jiffies64();

	if (verdict != FLOW_IGNORE && !tell(s, verdict, n))
		return;
	if (!c)
		c = victim(set, now, verdict != FLOW_IGNORE);
	if (!c) {
		n->crowded++;
		return;
	}
	write_cell(c, s->id, now, verdict == FLOW_REPLICATE);
}

static __always_inline void forwarded(struct __sk_buff *skb)
{
	struct flow_counters *n;
	struct cell *own = 0;
	struct cells *set;
	struct seen s;
	__u32 key = 0;

	n = bpf_map_lookup_elem(&tandem_packets, &key);
	if (!n || !look(skb, &s, n))
		return;
	key = s.id & cell_mask;
	set = bpf_map_lookup_elem(&tandem_cells, &key);
	if (!set)
		return;
	s.id = s.id >> 32 << 32 | signature(&s);
	for (int i = 0; i < WAYS; i++) {
		__u64 id = READ_ONCE(set->way[i].id);

		if (id == s.id)
			return matched(&set->way[i], &s, n);
		if (id >> 32 == s.id >> 32)
			own = &set->way[i];
	}
	changed(set, own, &s, n);
}

SEC("tc")
int tandem_flow(struct __sk_buff *skb)
{
	forwarded(skb);
	return TC_NEXT;
}
