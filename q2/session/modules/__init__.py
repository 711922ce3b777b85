"""Runs over a module that is no denoiser: transform, training and search."""
