"""Search: what looks for good recipes."""
