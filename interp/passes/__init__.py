"""One pass through the model, forward and, where gradients are wanted, backward.

Read in this order:

capture: the verb that keeps arrays.
measure: the verb that reduces every layer as it arrives.
target: what the gradients are of.
plan: what a pass has to read, in which order.
delivery: the reader that hands values and gradients over as soon as they are known.
memory: how much memory a pass takes, and refusing what does not fit.
checkpointing: running each layer a second time in the backward pass, so that one layer's graph is held at a time.
row_subset: computing only some query rows of the last layers.
"""
