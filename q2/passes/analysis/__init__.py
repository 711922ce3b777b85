"""Passes that learn facts and change nothing, one a file."""
