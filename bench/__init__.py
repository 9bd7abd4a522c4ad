"""Benchmarks under pytest: real layers, what a call costs, and what importing costs."""
