"""Calibration: what layers read while images are denoised, and options fitted to it."""
