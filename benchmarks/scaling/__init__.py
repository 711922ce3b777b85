"""What `benchmarks.scale` is made of: a simulated search on many GPUs, and what its driver takes of a CPU."""
