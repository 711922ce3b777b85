"""Example inputs of any denoiser, derived from its signature and config."""
