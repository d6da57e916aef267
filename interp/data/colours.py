"""The colours of pictures, pages and notebooks: they survive colour blindness, and a grey print keeps their order."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

BLUE, ORANGE, GREEN, PURPLE, SKY, RED, YELLOW, GREY = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7"),
    *("#56B4E9", "#D55E00", "#F0E442", "#8C8C8C"),
)
"""The eight colours of Okabe and Ito, with a grey for their black."""

SEGMENT_COLOURS: Final[Mapping[str, str]] = MappingProxyType(
    {"PAD": GREY, "SINK": RED, "SYSTEM": SKY, "IMAGE": ORANGE, "USER": GREEN, "RESPONSE": BLUE, "TEXT": PURPLE}
)
"""One colour a segment in every picture; SINK where sinks are shown apart from the segment they lie in, TEXT for all text together."""

WARM: Final = ("#ffffff", "#fdebc8", "#f8c274", "#e58a2e", "#b9530f", "#742c08", "#3f1604")
"""From nothing to much on a white page: attention. Lightness falls evenly."""
COOL: Final = ("#ffffff", "#dfe6f5", "#a9bde3", "#7089c9", "#4656a2", "#2c2f70", "#191a42")
"""The same for saliency."""
PLAIN: Final = ("#ffffff", "#e9ecef", "#c3c9cf", "#959da5", "#666e76", "#3d444b", "#1d2329")
"""The same for anything else."""


def shade(value: float, stops: Sequence[str] = WARM) -> str:
    """Return the colour of a value in [0, 1] on a scale, as `#rrggbb`; what lies outside gets the nearest end, NaN the first."""
    place = min(max(value, 0.0), 1.0) * (len(stops) - 1) if value == value else 0.0  # noqa: PLR0124 (not a number)
    first = min(int(place), len(stops) - 2)
    low, high = (_parts(stops[i]) for i in (first, first + 1))
    mixed = (round(a + (b - a) * (place - first)) for a, b in zip(low, high, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def ink(ground: str) -> str:
    """Return the colour of letters that can be read on a ground: black or white, whichever has more contrast (WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (p / 255 for p in _parts(ground))]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"


def _parts(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
