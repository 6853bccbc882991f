"""Measurements behind the figures of docs/benchmarks.md."""
