"""How a running model is observed and changed. The only folder that knows transformers' attention and nnsight.

A pass is a table made once and a state that moves. Read in this order:

spec: what a pass reads, changes and differentiates, as a frozen value.
site_table: the table made of it: what happens at which site of which layer.
state: what moves: step, conversations, scratch of stateful interventions.
masks: masks and factors that follow from the tokens' roles, worked out once for many layers and steps.
audit: what every intervention did.
running: the running pass, in a context variable, and `Reader`, the one door for values.
points: the taps, as modules under TransformerLens' names.
attention: the attention function that transformers calls, and which path it takes.
eager: attention as a formula, through the taps.
large: patterns too large to be held twice.
residual: hooks that let the residual stream pass through its taps.
install: gives a model its taps.
restore: leaves a model as it came where loading it fails.
clean_run: the run without interventions whose keys and values some interventions need.
nnsight_trace: a model as nnsight sees it.
"""
