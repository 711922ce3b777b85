"""Saving a quantized pipeline, and loading it again with diffusers."""
