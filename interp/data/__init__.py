"""The nouns: plain frozen data that needs no model.

Read in this order:

tokens: segments of a conversation, and selections of tokens as values.
layout: the segment of every token, and what each image token saw of its image.
heads: sets of (layer, head), and the weights of one layer's heads.
prompt: what goes into a model and what comes out of it (`Prompt`, `Reply`, `Capture`).
result: the base class of all results; `results` holds those of several prompts.
storage: atomic writes; arrays with a JSON header.
images, display, colours: reading images, and how objects show themselves in a notebook.
export: captures in the format of TransformerLens.
"""
