"""Plain frozen data that needs no model.

In the order in which a reader needs them:

tokens: segments of a conversation, and selections of tokens as values.
layout: the segment of every token, and the part of its image that each image token covers.
heads: sets of (layer, head), and the weights of one layer's heads.
prompt: a model's input and outputs (`Prompt`, `Reply`, `Capture`).
result: the base class of all results; `results` holds those of several prompts.
storage: atomic writes, and files of arrays with a JSON header.
images: reads an image from a path, a PIL image or an array.
display, colours, short_repr: the HTML that a notebook shows of an object, its colours, and the one-line `repr`.
export: captures in the format of TransformerLens.
"""
