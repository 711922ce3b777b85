"""What people would pick in place of q2, on the same denoisers: see docs/peers.md."""
