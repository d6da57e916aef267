"""Decoding under interventions.

generate: the verb, with Hugging Face's own decoding.
stream: a second conversation that is decoded beside the first, for methods that contrast two.
"""
