"""Numerics of the quantizers: exact k-means, scales, nearest levels, errors; compiled, in row blocks."""
