"""Benchmarks: what a call costs and how that compares, on real layers."""
