"""What `benchmarks.faults` is made of: commands, how they are run and killed, and odd surroundings."""
