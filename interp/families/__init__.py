"""Model families, one file per `model_type`: where the parts of a model are, and how an image becomes tokens.

Read `base` first (the `Family` record and its lookup), then `llava` as an example. Files that begin with an underscore hold what
several families share: `_tiny` the tiny models, `_tokenizer` their tokenizer.
"""
