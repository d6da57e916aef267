"""How values show themselves in a notebook: plain, escaped HTML without a script or a plotting library."""


def visible(word: str) -> str:
    """Return a token as it can be read: line breaks, tabs and lone spaces made visible."""
    return word.replace("\n", "\\n").replace("\t", "\\t") if word.strip() else repr(word)[1:-1] or "''"
