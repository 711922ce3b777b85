"""What a network is worth beside simpler predictors, on trials of calibrated recipes; all from files, no denoiser runs."""
