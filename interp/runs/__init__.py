"""Benchmark runs that can be killed at any time and resumed, and the tables that compare them.

In reading order:

- `run` and `comparison`: the entries `run`, `compare` and `rescore`;
- `spec`: a `RunSpec`, everything that the rows of a run depend on; `identity` and `code` turn it into JSON data and a hash;
- `execution`: asks a model the samples of a spec, batch by batch; `shards` does the same on a Ray cluster;
- `directory` and `row`: a run on disk, its lock and its records;
- `parsed_run`, `statistics`, `table`, `table_formats`: parsed replies, intervals and tests, the table and its formats;
- `sweep`, `prompt_sweep`, `strengths`: sweeps over settings, layers and heads, and the ranking of heads;
- `stability`: how far replies depend on the batch size and the attention kernel.
"""
