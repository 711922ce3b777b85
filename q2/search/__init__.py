"""Search: targets, the space of recipes, trials and their store, metrics, and the predictor."""
