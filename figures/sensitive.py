"""The heads that support hallucinations most, as saved by `air_sensitivity.py`, for other figures."""

from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parent / "data" / "air_sensitivity.sensitivity.safetensors"
COUNT = 6


def sensitive_heads(count: int = COUNT, *, most: bool = True) -> Any:
    """Return the most (or least) sensitive heads.

    Raises:
        SystemExit: they are not known yet; says which command finds them.
    """
    from interp.analysis.sensitivity import Sensitivity

    if not DATA.exists():
        raise SystemExit(
            "the sensitive heads are not known; find them with: python figures/air_sensitivity.py --recompute"
        )
    return Sensitivity.load(DATA).top(count, most=most)
