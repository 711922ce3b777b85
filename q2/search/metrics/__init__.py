"""Metrics: what each is (`base`), and their arithmetic on arrays of features, images, latents and scores."""
