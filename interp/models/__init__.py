"""The model as users hold it.

model: `Model`, a Hugging Face model with its processor and family; the only class with state.
processing: from an image and a text to a `Prompt`.
head_weights: the weights of each head, with grouped keys and norms resolved.
"""
