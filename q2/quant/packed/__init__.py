"""Packed layers: codes and parameters in place of the weight."""
