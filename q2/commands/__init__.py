"""The commands of `q2.cli` that have files of their own."""
