// SPDX-License-Identifier: Apache-2.0
/* What a packet is known by wherever it is seen: a hash of what no router on the way through a queue changes. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in6.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define LOOK 64				/* bytes of layer 4 that make the identity */

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
