/* Preloaded under user-mode Linux in virtual time: the only randomness that reaches it, from a seed (splitmix64), so
 * that the same run sees the same ports, sequence numbers, hashes and losses. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

static uint64_t state;
static int seeded;

static uint64_t next(void) {
  uint64_t z = (state += 0x9e3779b97f4a7c15ULL);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

ssize_t getrandom(void *buffer, size_t length, unsigned int flags) {
  unsigned char *at = buffer;
  (void)flags;
  if (!seeded) {
    const char *seed = getenv("LAB_SEED");
    state = seed ? strtoull(seed, NULL, 10) : 1;
    seeded = 1;
  }
  for (size_t left = length; left > 0;) {
    uint64_t value = next();
    size_t part = left < sizeof value ? left : sizeof value;
    memcpy(at, &value, part);
    at += part;
    left -= part;
  }
  return (ssize_t)length;
}
