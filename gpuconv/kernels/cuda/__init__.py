"""Kernels for CUDA devices: each says what to launch, the launcher at work does it."""
