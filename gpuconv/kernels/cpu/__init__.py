"""Convolution with NumPy: few, large array operations, shared out among threads in fixed blocks."""
