"""Look inside multimodal language models, and change what you find."""
