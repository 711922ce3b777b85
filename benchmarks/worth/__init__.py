"""What a network is worth beside simpler predictors, on trials of calibrated recipes that are read from files."""
