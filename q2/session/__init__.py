"""What is done with a run file: transform, bank, sample, search, compare, predict, export, plan."""
