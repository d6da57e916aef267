"""Sites: the named places where a value can be read or changed, spelled once for the whole package.

`SITES` lists them in forward order under TransformerLens' names, `PARTS` the kinds of attention that a model may have. The other names
are the groups that have something in common.
"""

STREAM_SITES = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")
"""The residual stream of a decoder layer and what is added to it: batch, token, dim."""
SCORE_SITES = ("attn_scores", "pattern")
"""Attention before and after the softmax: batch, head, query, key. Only eager attention computes them."""
INSIDE_ATTENTION = ("q", "k", "v", *SCORE_SITES, "z")
"""The sites inside attention, which are all that parts other than the decoder have."""
SITES = ("resid_pre", *INSIDE_ATTENTION, "attn_out", "resid_mid", "mlp_out", "resid_post", "logits")
"""Where a value can be read or changed, in forward order."""
PARTS = ("decoder", "vision", "qformer", "cross")
"""Which attention: the decoder's, the vision tower's, the Q-Former's own and its cross-attention to the image."""
OTHER_PARTS = PARTS[1:]
"""The parts whose tokens have no role in the conversation."""
