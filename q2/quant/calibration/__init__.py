"""What layers put out: rows of their inputs during real denoising, and options fitted so that outputs change least."""
