"""Analyses: frozen settings that reduce each layer to a small partial, and all partials to a `Result`.

For those who measure and those who write an analysis; `interp measure --help` lists the analyses by name. In the order of reading:

base: `Analysis`, the `View` of the conversation that each one gets, and `on_capture`, which runs one on saved arrays.
reduction: how `measure` reduces several analyses in one pass.

Attention: rows, budget, distribution, sinks, visual anchors of CLVA (in `anchors`), imbalance, similarity, rollout.
Residual stream: massive (activations), readouts (logit lens, direct logit attribution).
Gradients and ablation: saliency (with its arithmetic in product), sensitivity.
Weights: spectrum, propagation; empirical observes propagation in the scores of a prompt.
Replies: token_labels says which tokens are hallucinated, statistics compares groups of tokens.
"""
