"""Names of other frameworks over q2's own."""
