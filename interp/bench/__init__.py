"""Benchmarks, one file each: data, question, parser of replies, and scores.

`base` has the base class and the functions that score replies. The benchmarks are `pope`, `chair`, `mme` and `steps`. They share
`parsers` (yes or no), `vocabulary` and `lemmas` (objects in a text). `negatives` makes POPE questions for your own images, `mme_files`
reads and writes the official result files of MME, and `lmms` adapts an intervened model to lmms-eval.
"""
