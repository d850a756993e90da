"""Benchmarks of this package: side by side in one run, as ratios, with the machine named."""
