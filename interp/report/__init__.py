"""Pages to look at: the demo's study of a model, and a question asked under several interventions, token by token.

Start with `write`, which writes the files; `page` and `token_page` make the two pages.
"""
