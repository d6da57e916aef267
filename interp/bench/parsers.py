"""Parsers of yes and no. The published rules disagree, so every score names its parser."""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from interp.registry import nearest

Parser = Callable[[str, str], str]
"""Takes a reply and the true answer ("yes" or "no"); returns "yes", "no", or "" for neither."""


def strict(reply: str, truth: str = "") -> str:
    """Return yes or no when that is the first word of the reply, in any letter case, else an empty string."""
    word = re.search(r"[^\W\d_]+", reply)
    said = word.group().lower() if word else ""
    return said if said in ("yes", "no") else ""


def pope(reply: str, truth: str = "") -> str:
    """Return no when the first sentence contains "No", "no" or "not" as a word between blanks, else yes.

    Commas are removed first. An empty reply counts as yes.

    References: Li et al., Evaluating Object Hallucination in Large Vision-Language Models (2023), released evaluation; also used by
        LLaVA and VisAttnSink. Differs: no.
    """
    words = reply.split(".", maxsplit=1)[0].replace(",", "").split(" ")
    return "no" if {"No", "no", "not"} & set(words) else "yes"


def opera(reply: str, truth: str = "") -> str:
    """Return no when the reply contains "No", "NO", "no", "not" or a word that ends in "n't", else yes.

    The whole reply is read, after full stops and commas are removed. An empty reply counts as yes.

    References: Huang et al., OPERA (2024), released evaluation; also used by PAI and TAME. Differs: no.
    """
    words = reply.replace(".", "").replace(",", "").split(" ")
    denies = {"No", "NO", "no", "not"} & set(words) or any(w.endswith("n't") for w in words)
    return "no" if denies else "yes"


def vcd(reply: str, truth: str) -> str:
    """Return the true answer when the reply contains its letters anywhere, in any letter case, else the other one.

    So "know" counts as no where no is true, and a reply with both words is always correct.

    References: Leng et al., Visual Contrastive Decoding (2024), released evaluation; also used by IMCCD. Differs: no.
    """
    return _by_truth(reply, truth, {"yes": ("yes",), "no": ("no",)})


def clearsight(reply: str, truth: str) -> str:
    """Return what `vcd` returns; this rule also searches for "not", which contains "no", so the two never differ.

    References: Yin et al., ClearSight (2025), released evaluation. Differs: no.
    """
    return _by_truth(reply, truth, {"yes": ("yes",), "no": ("no", "not")})


def mme(reply: str, truth: str = "") -> str:
    """Return yes or no when the first four characters contain it, in any letter case, else an empty string.

    A reply that is exactly "yes" or "no" is taken as such; otherwise "yes" is searched in the first four characters, then "no", so
    "none", "now" and "not" count as no.

    References: Fu et al., MME (2023), released calculation. Differs: no.
    """
    start = reply.lower() if reply.lower() in ("yes", "no") else reply.lower()[:4]
    return "yes" if "yes" in start else "no" if "no" in start else ""


def _by_truth(reply: str, truth: str, signs: Mapping[str, tuple[str, ...]]) -> str:
    said = any(sign in reply.lower() for sign in signs[truth])
    return truth if said else {"yes": "no", "no": "yes"}[truth]


PARSERS: Final[Mapping[str, Parser]] = MappingProxyType(
    {"strict": strict, "pope": pope, "opera": opera, "vcd": vcd, "clearsight": clearsight, "mme": mme}
)
"""The parsers by name."""


def get_parser(name: str) -> Parser:
    """Return the parser of a name.

    Raises:
        ValueError: no such parser; lists the known ones.
    """
    if name not in PARSERS:
        raise ValueError(f"no parser {name!r}{nearest(name, PARSERS)}; parsers: {', '.join(PARSERS)}")
    return PARSERS[name]
