"""Engines: where trials run. `base` is the contract; one file each."""
