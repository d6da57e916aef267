"""Model families, one file per `model_type`: where a model keeps its parts, and how an image becomes tokens.

Read `base` first (the `Family` record and how it is looked up), then `llava` as an example. Files that begin with an underscore hold
what several families share.
"""
