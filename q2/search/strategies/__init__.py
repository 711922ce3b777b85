"""Search strategies: they propose recipes and learn from trials. `base` is the interface; each has its own file."""
