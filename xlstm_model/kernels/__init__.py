"""Optional kernels for GPUs."""
