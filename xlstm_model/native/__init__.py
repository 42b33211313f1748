"""Optional compiled kernels for processors."""
