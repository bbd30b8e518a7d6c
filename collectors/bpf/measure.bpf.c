// SPDX-License-Identifier: Apache-2.0
/* Delay of every class in the kernel itself, in two ways that share all they count.
 *
 * By identity: `stamp` at the clsact egress hook, before the queue, `match` in a packet socket on the device, behind it,
 * for which the kernel copies every packet. By address: `note` on the same hook, and `leave` where any device of the
 * machine is handed a packet: it is the same one while nobody cuts or copies it, and one word of `counted` tells that it
 * has no stamp. `match` tells `leave` which device it is. Both may be under way at once: a stamp's key is odd by identity
 * and even by address.
 *
 * A tracepoint is no account: a kernel may run no program there, for some of its tasks or when one is under way. So by
 * address what came out was looked at, and what did not is no loss; of losses the identity tells, and the queue.
 *
 * `stamp` and `note` are entered by a tail call from the program that has classified the packet and left its class in
 * cb[0].
 *
 * No BTF of the kernel is needed, and no helper younger than Linux 5.8. All times are of the monotonic clock, in ns.
 */
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>
#include "identity.bpf.h"

#define CUTS_LOG 5			/* 32 buckets an octave: each at most 3.2 % wide; how.cuts_log may be more */
#define LOWEST_LOG 10			/* the first bucket ends at 1.024 us */
#define OCTAVES 26			/* the last begins at 68.7 s */
#define BUCKETS(cuts_log) (2 + (OCTAVES << (cuts_log)))
#define BINS_LOG 11			/* arrivals of the last 2.1 s, by 1.05 ms */
#define BIN_NS_LOG 20
#define PLACES_LOG 12
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
	__u32 noting;			/* by address: what comes out and has no identity kept is no stranger */
	__u32 sorting;			/* the class is written on the packet, by which the queue sorts it with no filter */
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
	__u64 cut;			/* super-packets that did not come out as they were */
};

/* Of a processor. */
struct own {
	__u64 address;			/* of the packet at hand, as a number */
	__u64 dice;
	__u64 passing;			/* what is handed to a device next came by `match` */
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

/* At least so many packets are stamped by an address of this place: 0 is for almost all that are not. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << PLACES_LOG);
	__type(key, __u32);
	__type(value, __u64);
} counted SEC(".maps");

/* Where the kernel has the device, 0 until `leave` knows. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} device SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct own);
} own SEC(".maps");

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

/* Where the classifying program goes on: 0 is `stamp` or `note`. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} next SEC(".maps");

/* Looked up only where it is written: most packets have nothing to say there. */
static __always_inline struct health *own_health(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&health, &zero);
}

#define COUNT(what) do { struct health *bad = own_health(); if (bad) bad->what++; } while (0)

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

/* What is known of a packet in front of the queue. */
struct arrival {
	struct own *mine;
	struct config *how;
	struct totals *sum;
	struct stamp made;
	__u64 key, *taken;		/* its address, and the place of that */
	int probe;
};

static __always_inline __u64 *place_of(__u64 address)
{
	__u32 place = (address * 0x9e3779b97f4a7c15ULL) >> (64 - PLACES_LOG);

	return bpf_map_lookup_elem(&counted, &place);
}

/* The address of a packet that was stamped belongs to another now: nobody saw where the first one went. */
static __always_inline void forget(struct arrival *one)
{
	struct stamp *stale = bpf_map_lookup_elem(&stamps, &one->key);
	__u32 segments;

	if (!stale)
		return;
	segments = stale->segments;
	if (bpf_map_delete_elem(&stamps, &one->key))
		return;
	__sync_fetch_and_add(one->taken, -1);
	if (segments > 1)
		COUNT(cut); /* or lost: who knows */
}

/* 0 for a packet that is not measured. */
static __always_inline int arrives(struct __sk_buff *skb, struct arrival *one)
{
	__u32 zero = 0, class = skb->cb[0], minor = class & 0xffff, *number;

	one->mine = bpf_map_lookup_elem(&own, &zero);
	one->probe = (skb->priority & ~PRIORITIES) == PROBE;
	if (one->probe)
		skb->priority &= PRIORITIES; /* as it goes without us */
	one->how = bpf_map_lookup_elem(&config, &zero);
	if (!one->mine || !one->how)
		return 0;
	if (one->how->sorting && class)
		skb->priority = class;
	/* out of a map it is a number, with which the verifier lets one count */
	*(volatile __u64 *)&one->mine->address = (unsigned long)skb;
	one->key = *(volatile __u64 *)&one->mine->address;
	one->taken = place_of(one->key);
	if (!one->taken)
		return 0;
	if (*one->taken)
		forget(one);
	number = bpf_map_lookup_elem(&slot_of, &minor);
	if (!number || !*number) {
		if (!class)
			COUNT(unclassified);
		return 0;
	}
	one->made.slot = *number - 1;
	one->sum = bpf_map_lookup_elem(&totals, &one->made.slot);
	if (!one->sum)
		return 0;
	one->made.segments = skb->gso_segs > 1 ? skb->gso_segs : 1;
	if (one->made.segments > 1)
		COUNT(super_packets);
	return 1;
}

/* Asked for once, and not at all of TCP that is not stamped. */
static __always_inline __u64 time_of(struct arrival *one)
{
	if (!one->made.at)
		one->made.at = bpf_ktime_get_ns();
	return one->made.at;
}

/* Counts it among the arrivals. */
static __always_inline void count(struct __sk_buff *skb, struct arrival *one, __u32 protocol)
{
	__u64 now, generation, *arrived;
	__u32 size, bin;

	if (one->probe)
		return;
	size = size_of(skb, one->how);
	one->sum->arrived += one->made.segments;
	one->sum->arrived_bytes += size;
	if (protocol == IPPROTO_TCP)
		return;
	one->sum->inelastic_bytes += size;
	now = time_of(one);
	bin = one->made.slot << BINS_LOG | ((now >> BIN_NS_LOG) & ((1 << BINS_LOG) - 1));
	arrived = bpf_map_lookup_elem(&arrivals, &bin);
	if (!arrived)
		return;
	generation = now >> (BIN_NS_LOG + BINS_LOG) << 32;
	if ((*arrived ^ generation) >> 32)
		*arrived = generation;
	__sync_fetch_and_add(arrived, size);
}

SEC("tc")
int stamp(struct __sk_buff *skb)
{
	struct arrival one = {};
	struct stamp *twin;
	__u32 protocol = 0, segments;
	__u64 hash;

	if (!arrives(skb, &one))
		return TC_ACT_UNSPEC;
	time_of(&one);
	hash = identity(skb, &protocol);
	count(skb, &one, protocol);
	if (!hash) {
		COUNT(undecoded);
		return TC_ACT_UNSPEC;
	}
	if ((hash >> 8) & one.how->sampling_mask)
		return TC_ACT_UNSPEC;
	segments = one.made.segments;
	if (one.probe)
		one.made.slot = NOBODY; /* of a probe only that it comes out is known, so that it is no stranger there */
	else
		one.sum->stamped += segments;
	if (bpf_map_update_elem(&stamps, &hash, &one.made, BPF_NOEXIST)) {
		twin = bpf_map_lookup_elem(&stamps, &hash);
		if (!twin) {
			one.sum->no_room += segments;
			return TC_ACT_UNSPEC;
		}
		one.sum->ambiguous += segments + twin->segments;
		twin->segments = 0;
		twin->at = one.made.at;
	}
	return TC_ACT_UNSPEC;
}

/* The protocol of a packet that has all its headers, by the shortest way there is; 0 for any other. */
static __always_inline __u32 plain(struct __sk_buff *skb)
{
	__u8 *data = (void *)(long)skb->data, *ip = data + ETH_HLEN;

	if (ip + 40 > (__u8 *)(long)skb->data_end || data[12] != ETH_P_IP >> 8 || data[13] || ip[0] != 0x45)
		return 0;
	return ip[9];
}

SEC("tc")
int note(struct __sk_buff *skb)
{
	struct arrival one = {};
	__u32 protocol;
	int malformed;

	if (!arrives(skb, &one))
		return TC_ACT_UNSPEC;
	protocol = plain(skb);
	malformed = !protocol && !identity(skb, &protocol);
	count(skb, &one, protocol);
	if (malformed) {
		COUNT(undecoded);
		return TC_ACT_UNSPEC;
	}
	one.mine->dice = one.mine->dice * 6364136223846793005ULL + 1442695040888963407ULL;
	if (one.probe || (one.mine->dice >> 33) & one.how->sampling_mask)
		return TC_ACT_UNSPEC;
	time_of(&one);
	if (bpf_map_update_elem(&stamps, &one.key, &one.made, BPF_NOEXIST))
		one.sum->no_room += one.made.segments;
	else
		__sync_fetch_and_add(one.taken, 1);
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

/* Counts a packet behind the queue: whether its stamp is gone. */
static __always_inline int came_out(const struct config *how, struct stamp *found, __u64 key)
{
	__u64 delay = bpf_ktime_get_ns() - found->at, *times;
	__u32 slot = found->slot, segments = found->segments, cuts_log = how->cuts_log, bucket;
	struct extremes *bounds;
	struct totals *sum;
	struct limits *late;
	int i;

	if (!segments || bpf_map_delete_elem(&stamps, &key))
		return 0; /* one of two alike, which the sweep removes, or removed by it now */
	sum = bpf_map_lookup_elem(&totals, &slot);
	if (!sum)
		return 1;
	if (!(key & 1))
		sum->stamped += segments;
	sum->matched += segments;
	sum->delay_ns += delay * segments;
	late = bpf_map_lookup_elem(&limits, &slot);
	if (late) {
#pragma unroll
		for (i = 0; i < LIMITS; i++)
			if (late->at[i] && delay > late->at[i])
				sum->late[i] += segments;
	}
	if (cuts_log > LOWEST_LOG)
		return 1;
	bucket = slot * BUCKETS(cuts_log) + bucket_of(delay, cuts_log);
	times = bpf_map_lookup_elem(&delays, &bucket);
	if (times)
		__sync_fetch_and_add(times, segments);
	slot = slot << 1 | (how->phase & 1);
	bounds = bpf_map_lookup_elem(&extremes, &slot);
	if (bounds) {
		if (!bounds->least || delay + 1 < bounds->least)
			bounds->least = delay + 1;
		if (delay > bounds->largest)
			bounds->largest = delay;
	}
	return 1;
}

SEC("socket")
int match(struct __sk_buff *skb)
{
	__u32 zero = 0, protocol = 0;
	struct config *how = bpf_map_lookup_elem(&config, &zero);
	struct own *mine = bpf_map_lookup_elem(&own, &zero);
	struct stamp *found;
	__u64 hash;

	if (!how || !mine || skb->pkt_type != PACKET_OUTGOING)
		return 0;
	mine->passing = 1;
	hash = identity(skb, &protocol);
	if (!hash || (hash >> 8) & how->sampling_mask)
		return 0;
	found = bpf_map_lookup_elem(&stamps, &hash);
	if (found)
		came_out(how, found, hash);
	else if (!how->noting)
		COUNT(unknown);
	return 0;
}

/* On this processor `match` has just seen the packet that is handed over now, or none. */
static __always_inline int learns(__u64 *ours, __u64 at)
{
	__u32 zero = 0;
	struct own *mine = bpf_map_lookup_elem(&own, &zero);

	if (mine && mine->passing)
		*ours = at;
	return 0;
}

SEC("raw_tp/net_dev_start_xmit")
int leave(struct bpf_raw_tracepoint_args *context)
{
	__u64 key = context->args[0], at = context->args[1], *ours, *taken;
	__u32 zero = 0;
	struct config *how;
	struct stamp *found;

	ours = bpf_map_lookup_elem(&device, &zero);
	if (!ours)
		return 0;
	if (*ours != at)
		return *ours ? 0 : learns(ours, at);
	taken = place_of(key);
	if (!taken || !*taken)
		return 0;
	found = bpf_map_lookup_elem(&stamps, &key);
	how = bpf_map_lookup_elem(&config, &zero);
	if (found && how && came_out(how, found, key))
		__sync_fetch_and_add(taken, -1);
	return 0;
}

char measure_license[] SEC("license") = "Apache-2.0";
