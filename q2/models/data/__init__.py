"""Data for training and evaluating modules."""
