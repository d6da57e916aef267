"""Decoding under interventions.

generate: the verb, with Hugging Face's own decoding.
stream: a conversation with a cache of its own, continued token by token beside whatever else runs.
second_stream: the base of methods that contrast the model with such a second stream.
loop: the base of methods with a decoding loop of their own.
"""
