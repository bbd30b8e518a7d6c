// SPDX-License-Identifier: Apache-2.0
/* Delay of every class in the kernel itself: `stamp` at the clsact egress hook, before the queue, `match` in a packet
 * socket on the device, behind it.
 *
 * A packet is known again by a hash of what no router on the way through a queue changes. `stamp` is entered by a tail
 * call from the program that has classified the packet and left its class in cb[0].
 *
 * No BTF of the kernel is needed, and no helper younger than Linux 5.8. All times are of the monotonic clock, in ns.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in6.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define CUTS_LOG 5			/* 32 buckets an octave: each at most 3.2 % wide; how.cuts_log may be more */
#define LOWEST_LOG 10			/* the first bucket ends at 1.024 us */
#define OCTAVES 26			/* the last begins at 68.7 s */
#define BUCKETS(cuts_log) (2 + (OCTAVES << (cuts_log)))
#define BINS_LOG 11			/* arrivals of the last 2.1 s, by 1.05 ms */
#define BIN_NS_LOG 20
#define LOOK 64				/* bytes of layer 4 that make the identity */
#define LIMITS 4			/* of a class: delays beyond each are counted exactly */
#define CELL 53
#define CELL_PAYLOAD 48
#define PROBE 0x50726f60		/* priority of our own probes, all but its last four bits: probe/apart.py */
#define PRIORITIES 0xf
#define NOBODY 0xffffffff		/* the slot of what counts for no class */

struct config {
	__u64 sampling_mask;		/* a packet is taken when hash & mask is 0 */
	__u32 phase;			/* which of the two sets of extremes is written */
	/* how the queue counts a packet: struct tc_sizespec, as far as its table follows from it */
	__u32 counts;			/* 0: by its length on the wire */
	__s32 overhead;
	__u32 least, cells, steps, step_log;	/* without steps only the overhead counts */
	__s32 align;
	__u32 cuts_log;			/* buckets of delay to an octave, at most 1 << LOWEST_LOG */
	__u32 unused;
};

struct stamp {
	__u64 at;
	__u32 slot;
	__u32 segments;			/* 0 marks what was seen twice: neither is ever matched */
};

/* Sums since the start, one set a processor. */
struct totals {
	__u64 arrived, arrived_bytes;	/* packets as on the wire: a super-packet's segments are counted each */
	__u64 inelastic_bytes;		/* what is not TCP, and will not send less because it waits */
	__u64 stamped, matched;		/* of these, those that were taken, and those that came out */
	__u64 delay_ns;
	__u64 ambiguous, no_room;
	__u64 late[LIMITS];		/* of the matched, those beyond each limit */
};

struct limits {
	__u64 at[LIMITS];		/* ns; 0 for none */
};

struct extremes {
	__u64 least, largest;		/* least is 0 for none yet, else the delay + 1 */
};

/* Of packets without a class. */
struct health {
	__u64 undecoded, unclassified, unknown, super_packets;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct config);
} config SEC(".maps");

/* From a class's minor number to its slot + 1; 0 for what is not measured. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, __u32);
} slot_of SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, struct stamp);
} stamps SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, BUCKETS(CUTS_LOG));	/* times the slots */
	__type(key, __u32);
	__type(value, __u64);
} delays SEC(".maps");

/* generation << 32 | bytes of what is not TCP */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1 << BINS_LOG);	/* times the slots */
	__type(key, __u32);
	__type(value, __u64);
} arrivals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);		/* the slots */
	__type(key, __u32);
	__type(value, struct totals);
} totals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);		/* the slots */
	__type(key, __u32);
	__type(value, struct limits);
} limits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);		/* twice the slots */
	__type(key, __u32);
	__type(value, struct extremes);
} extremes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct health);
} health SEC(".maps");

/* Where the classifying program goes on: 0 is `stamp`. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} next SEC(".maps");

static __always_inline __u64 mixed(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
	return hash ^ (hash >> 29);
}

/* The bytes of `skb` from `offset` on, as many as there are, the others 0; how many there were. */
static __always_inline __u64 look(struct __sk_buff *skb, __u64 offset, __u64 *into)
{
	__u64 left = skb->len;

	__builtin_memset(into, 0, LOOK);
	if (offset >= left)
		return 0;
	left -= offset;
	if (left >= LOOK)
		return bpf_skb_load_bytes(skb, offset, into, LOOK) ? 0 : LOOK;
	left &= LOOK - 1; /* which it is, for the verifier */
	asm volatile("" : "+r"(left));
	if (!left)
		return 0;
	return bpf_skb_load_bytes(skb, offset, into, left) ? 0 : left;
}

/* The identity of what stands behind the network header; `hash` has the addresses in it. 0 if it is malformed. */
static __always_inline __u64 of_transport(struct __sk_buff *skb, __u32 offset, __u8 protocol, __u64 hash)
{
	__u64 words[LOOK / 8];
	__u64 there = look(skb, offset, words);
	__u8 *bytes = (__u8 *)words;
	int i;

	switch (protocol) {
	case IPPROTO_TCP:
		if (there < 20)
			return 0;
		/* offset, flags and window change when a super-packet is cut, the checksum when it is filled in */
		words[1] &= bpf_cpu_to_be64(0xffffffff00000000ULL);
		words[2] &= bpf_cpu_to_be64(0x00000000ffffffffULL);
		break;
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
		if (there < 8)
			return 0;
		words[0] &= bpf_cpu_to_be64(0xffffffff00000000ULL);
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		if (there < 4)
			return 0;
		bytes[2] = bytes[3] = 0;
		break;
	}
#pragma unroll
	for (i = 0; i < LOOK / 8; i++)
		hash = mixed(hash, words[i]);
	return hash | 1;
}

/* What a packet is known by; 0 if it is malformed. `protocol` is that of its transport, 0 where nothing says. */
static __always_inline __u64 identity(struct __sk_buff *skb, __u32 *protocol)
{
	__u32 offset = ETH_HLEN;
	__u64 hash = 0x5a00;
	__u16 ethertype;
	int i;

	if (bpf_skb_load_bytes(skb, 12, &ethertype, 2))
		return 0;
#pragma unroll
	for (i = 0; i < 2; i++) {
		if (ethertype != bpf_htons(ETH_P_8021Q) && ethertype != bpf_htons(ETH_P_8021AD))
			break;
		if (bpf_skb_load_bytes(skb, offset + 2, &ethertype, 2))
			return 0;
		offset += 4;
	}
	if (ethertype == bpf_htons(ETH_P_IP)) {
		__u64 words[3] = {};
		__u8 *bytes = (__u8 *)words;
		__u32 length;

		if (bpf_skb_load_bytes(skb, offset, words, 20))
			return 0;
		length = (bytes[0] & 0xf) * 4;
		if (bytes[0] >> 4 != 4 || length < 20)
			return 0;
		/* identification, fragment, protocol; addresses: not the length, the DS byte, TTL and checksum */
		hash = mixed(hash, words[0] & bpf_cpu_to_be64(0x00000000ffffffffULL));
		hash = mixed(hash, (__u64)bytes[9] << 32 | (__u32)words[2]);
		hash = mixed(hash, words[1] & bpf_cpu_to_be64(0x00000000ffffffffULL));
		*protocol = bytes[9];
		/* behind the first fragment there are no ports */
		return of_transport(skb, offset + length, (words[0] & bpf_cpu_to_be64(0x1fff)) ? 0 : bytes[9], hash);
	}
	if (ethertype == bpf_htons(ETH_P_IPV6)) {
		__u64 words[5];
		__u8 *bytes = (__u8 *)words;
		__u8 next_header, fragment = 0, head[8];

		if (bpf_skb_load_bytes(skb, offset, words, 40))
			return 0;
		if (bytes[0] >> 4 != 6)
			return 0;
		next_header = bytes[6];
#pragma unroll
		for (i = 1; i < 5; i++)
			hash = mixed(hash, words[i]);
		offset += 40;
#pragma unroll
		for (i = 0; i < 4; i++) {
			if (next_header != IPPROTO_HOPOPTS && next_header != IPPROTO_ROUTING &&
			    next_header != IPPROTO_DSTOPTS && next_header != IPPROTO_FRAGMENT)
				break;
			if (bpf_skb_load_bytes(skb, offset, head, 8))
				return 0;
			if (next_header == IPPROTO_FRAGMENT) {
				hash = mixed(hash, *(__u64 *)head);
				fragment |= (head[2] | (head[3] & 0xf8)) != 0;
				offset += 8;
			} else {
				offset += (head[1] + 1) * 8;
			}
			next_header = head[0];
		}
		*protocol = next_header;
		return of_transport(skb, offset, fragment ? 0 : next_header, mixed(hash, next_header));
	}
	return of_transport(skb, offset, 0, mixed(hash, ethertype));
}

static __always_inline struct health *own_health(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&health, &zero);
}

/* The bytes that the queue counts a packet for: with a size table as __qdisc_calculate_pkt_len() does. */
static __always_inline __u32 size_of(struct __sk_buff *skb, const struct config *how)
{
	__s64 size;

	if (!how->counts)
		return skb->wire_len; /* of a super-packet with the headers of every segment */
	size = (__s64)skb->len + how->overhead;
	if (how->steps) {
		__s64 at = size + how->align;

		size = at > 0 ? (((__u64)at >> how->step_log) + 1) << how->step_log : 1ULL << how->step_log;
		if (size < how->least)
			size = how->least;
		if (how->cells)
			size = ((__u64)size + CELL_PAYLOAD - 1) / CELL_PAYLOAD * CELL;
	}
	return size > 0 ? size : 1;
}

SEC("tc")
int stamp(struct __sk_buff *skb)
{
	__u32 zero = 0, class = skb->cb[0], minor = class & 0xffff, slot, bin;
	__u32 segments = skb->gso_segs > 1 ? skb->gso_segs : 1;
	int probe = (skb->priority & ~PRIORITIES) == PROBE;
	struct stamp made = {}, *twin;
	struct health *bad = own_health();
	struct config *how = bpf_map_lookup_elem(&config, &zero);
	struct totals *sum;
	__u32 *number;
	__u64 hash, now, generation, *arrived;
	__u32 protocol = 0, size;

	if (probe)
		skb->priority &= PRIORITIES; /* as it goes without us */
	if (!bad || !how)
		return TC_ACT_UNSPEC;
	number = bpf_map_lookup_elem(&slot_of, &minor);
	if (!number || !*number) {
		bad->unclassified += !class;
		return TC_ACT_UNSPEC;
	}
	slot = *number - 1;
	sum = bpf_map_lookup_elem(&totals, &slot);
	if (!sum)
		return TC_ACT_UNSPEC;
	if (segments > 1)
		bad->super_packets++;
	now = bpf_ktime_get_ns();
	size = size_of(skb, how);
	if (!probe) {
		sum->arrived += segments;
		sum->arrived_bytes += size;
	}
	hash = identity(skb, &protocol);
	if (!probe && protocol != IPPROTO_TCP) {
		sum->inelastic_bytes += size;
		bin = slot << BINS_LOG | ((now >> BIN_NS_LOG) & ((1 << BINS_LOG) - 1));
		arrived = bpf_map_lookup_elem(&arrivals, &bin);
		if (arrived) {
			generation = now >> (BIN_NS_LOG + BINS_LOG) << 32;
			if ((*arrived ^ generation) >> 32)
				*arrived = generation;
			__sync_fetch_and_add(arrived, size);
		}
	}
	if (!hash) {
		bad->undecoded++;
		return TC_ACT_UNSPEC;
	}
	if ((hash >> 8) & how->sampling_mask)
		return TC_ACT_UNSPEC;
	made.at = now;
	made.slot = probe ? NOBODY : slot; /* of a probe only that it comes out is known, so that it is no stranger there */
	made.segments = segments;
	if (!probe)
		sum->stamped += segments;
	if (bpf_map_update_elem(&stamps, &hash, &made, BPF_NOEXIST)) {
		twin = bpf_map_lookup_elem(&stamps, &hash);
		if (!twin) {
			sum->no_room += segments;
			return TC_ACT_UNSPEC;
		}
		sum->ambiguous += segments + twin->segments;
		twin->segments = 0;
		twin->at = now;
	}
	return TC_ACT_UNSPEC;
}

/* The bucket of a delay: below the lowest edge 0, then equal ones to every power of two, then one more. */
static __always_inline __u32 bucket_of(__u64 delay, __u32 cuts_log)
{
	__u64 above = delay >> LOWEST_LOG;
	__u32 octave = 0;

	if (!above)
		return 0;
#define HALVE(bits) if (above >> bits) { above >>= bits; octave += bits; }
	HALVE(32) HALVE(16) HALVE(8) HALVE(4) HALVE(2) HALVE(1)
#undef HALVE
	if (octave >= OCTAVES)
		return BUCKETS(cuts_log) - 1;
	return 1 + (octave << cuts_log) + ((delay >> (octave + LOWEST_LOG - cuts_log)) & ((1 << cuts_log) - 1));
}

SEC("socket")
int match(struct __sk_buff *skb)
{
	__u32 zero = 0, bucket;
	struct config *how = bpf_map_lookup_elem(&config, &zero);
	struct health *bad = own_health();
	struct extremes *bounds;
	struct totals *sum;
	struct stamp *found;
	struct limits *late;
	__u64 hash, delay, *count;
	int i;
	__u32 slot, segments, protocol = 0, cuts_log;

	if (!how || !bad || skb->pkt_type != PACKET_OUTGOING)
		return 0;
	hash = identity(skb, &protocol);
	if (!hash || (hash >> 8) & how->sampling_mask)
		return 0;
	found = bpf_map_lookup_elem(&stamps, &hash);
	if (!found) {
		bad->unknown++;
		return 0;
	}
	delay = bpf_ktime_get_ns() - found->at;
	slot = found->slot;
	segments = found->segments;
	if (!segments)
		return 0; /* one of two alike; the sweep removes it */
	bpf_map_delete_elem(&stamps, &hash);
	sum = bpf_map_lookup_elem(&totals, &slot);
	if (!sum)
		return 0;
	sum->matched += segments;
	sum->delay_ns += delay * segments;
	late = bpf_map_lookup_elem(&limits, &slot);
	if (late) {
#pragma unroll
		for (i = 0; i < LIMITS; i++)
			if (late->at[i] && delay > late->at[i])
				sum->late[i] += segments;
	}
	cuts_log = how->cuts_log;
	if (cuts_log > LOWEST_LOG)
		return 0;
	bucket = slot * BUCKETS(cuts_log) + bucket_of(delay, cuts_log);
	count = bpf_map_lookup_elem(&delays, &bucket);
	if (count)
		__sync_fetch_and_add(count, segments);
	slot = slot << 1 | (how->phase & 1);
	bounds = bpf_map_lookup_elem(&extremes, &slot);
	if (bounds) {
		if (!bounds->least || delay + 1 < bounds->least)
			bounds->least = delay + 1;
		if (delay > bounds->largest)
			bounds->largest = delay;
	}
	return 0;
}

char measure_license[] SEC("license") = "Apache-2.0";
