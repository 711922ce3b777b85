"""The quantizers that ship with q2, an algorithm each."""
