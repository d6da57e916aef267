"""How a running model is observed and changed. The only folder that knows transformers' attention and nnsight.

Read in this order:

running: what is read and changed while the model runs, as a value in a context variable.
points: the named places a value passes through.
attention: the attention function that transformers calls for a tapped model.
residual: hooks on the residual stream.
install: gives a model its taps.
clean_run: the run without interventions whose keys and values some interventions need.
nnsight_trace: one nnsight trace that reads values and their gradients.
"""
