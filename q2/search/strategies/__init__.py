"""Strategies: what proposes recipes and learns from trials. `base` is the contract; one file each."""
