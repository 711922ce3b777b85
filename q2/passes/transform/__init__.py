"""Passes that change the denoiser, one a file."""
