"""What `make bench` runs: each figure is a ratio of two times of one run, so that another machine's are alike."""
