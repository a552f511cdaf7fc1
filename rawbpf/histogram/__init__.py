"""Distributions that a BPF program counted in a map, or that Python counts: as numbers, as text, as a picture.

    histogram   Histogram: made of maps or of numbers, asked for percentiles, added and subtracted
    scale       which values a bucket holds: powers of two, or steps of one width
    source      slots and counts out of a map's elements
    text        the layout that BCC's tools print
    svg         the picture

Opens no map and calls no kernel: whatever has `items()` will do.
"""

from rawbpf.histogram.histogram import Histogram as Histogram

__all__ = ["Histogram"]
