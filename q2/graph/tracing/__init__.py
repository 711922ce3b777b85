"""Tracing: run a model's own Python once on proxies that carry values, and keep every operation as a node."""
