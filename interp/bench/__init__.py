"""Benchmarks, one file each: data, question, reader and scores."""
