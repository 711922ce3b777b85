"""Fits options to what layers put out: rows of real inputs, and codebooks and codes chosen for them."""
