"""Interventions: frozen values, each with one pure `__call__(value, here) -> value` at one site.

Read `base` first (`Intervention`, and `Here`, the place in model and conversation that it acts at), then `method` (the base class of
published methods), `scope` (refuses what can never act on a given model) and `files` (reads and writes YAML and JSON). Each other file
holds the kinds at one site: `attention` (scores and pattern), `balance` (segments against each other), `values`, `heads`, `stream` (the
residual stream), `lens` (the logits, by earlier depths) and `function` (any Python function).
"""
