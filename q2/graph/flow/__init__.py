"""The flow graph: weight layers, the points where flows meet, the units they form, and how they are drawn."""
