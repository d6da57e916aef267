"""Interventions: frozen values, each with one pure `__call__(value, here) -> value` at one site.

Read `base` first (`Intervention`, and `Here`, which tells it where it is), then `method` (the base class of published methods) and
`scope` (refuses what can never act on a given model). The other files hold one kind each: attention scores and pattern, values, heads,
the residual stream, balance between segments, any function, the logit lens.
"""
