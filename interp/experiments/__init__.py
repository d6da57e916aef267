"""Experiments: studies that need more than one pass, one file each.

effect: the difference that interventions make to one quantity; its quantities serve the others. Start here.
erasure: exact erasure of every head on a teacher-forced reply (`erase_heads`).
knockout: attention cut between segments, and activations patched between prompts, by layer.
sinks, tasks: SPEAR's causal study of attention sinks, and its three tasks on scenes of the drawn world.
massive: massive activations set to zero or to a mean. decay: LVLMs-Saliency's decay of attention to the reply.
similarity: attention within a reply with the image and without.
"""
