"""What `benchmarks.fuzz` is made of: the readers of q2, valid things for them to read, and how these are damaged."""
