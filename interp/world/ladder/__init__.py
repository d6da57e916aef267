"""How the models of the second world are trained: one recipe file per model, one command, resumable at any step.

Start with `config` (what a recipe says), then `loop` (one optimisation loop for every stage), then the stages in their
order: `tower`, `language`, `joint` (with its `rows`); `run` goes through them.
"""
