"""What a search maximizes and within which bounds: targets, expressions, constraints."""
