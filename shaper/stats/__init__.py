"""What a number is worth: intervals, delay variation, voice quality, availability, burstiness. Pure arithmetic."""

from shaper.stats.availability import Availability, AvailabilityCount, availability
from shaper.stats.batches import batch_means
from shaper.stats.burst import dispersion, peak_to_mean
from shaper.stats.clusters import Cluster, clustered_ranks, clustered_wilson, design_effect
from shaper.stats.interval import Interval, ranks, wilson
from shaper.stats.variation import consecutive, variation
from shaper.stats.voice import CODECS, PLAYOUTS, Codec, Voice, longest_wait, mos_of, rating, voice

__all__ = [
    "CODECS",
    "PLAYOUTS",
    "Availability",
    "AvailabilityCount",
    "Cluster",
    "Codec",
    "Interval",
    "Voice",
    "availability",
    "batch_means",
    "clustered_ranks",
    "clustered_wilson",
    "consecutive",
    "design_effect",
    "dispersion",
    "longest_wait",
    "mos_of",
    "peak_to_mean",
    "ranks",
    "rating",
    "variation",
    "voice",
    "wilson",
]
