"""Benchmark runs that survive: a directory each, compared in pairs."""
