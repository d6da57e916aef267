"""Arrays in a page: 8 bits an entry with one scale a row, all in one compressed block."""

import base64
import gzip
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from jaxtyping import Float
from torch import Tensor

LEVELS = 255
FINE = 65535


@final
@dataclass(eq=False)
class Block:
    """Arrays one after the other; each is described by where it starts, so that a page finds it again."""

    parts: list[bytes] = field(default_factory=list)
    size: int = 0

    def rows(self, values: Float[Tensor, "*layer key"]) -> dict[str, Any]:
        """Add non-negative rows and return where they are.

        Each row is kept as round(255 √(v / m)) with its largest value m, so that small values keep their proportions: v is
        off by at most m / 255.
        """
        array = values.detach().cpu().double().numpy()
        scale = array.max(-1, initial=0.0).astype("<f4")
        share = array / np.where(scale > 0, scale, 1.0)[..., None]
        codes = np.rint(LEVELS * np.sqrt(share.clip(0, 1))).astype(np.uint8)
        return {"shape": list(array.shape), "scale": self._add(scale.tobytes()), "codes": self._add(codes.tobytes())}

    def shares(self, values: Float[Tensor, "*layer segment"]) -> dict[str, Any]:
        """Add numbers in [0, 1], kept to 1 / 65535, and return where they are."""
        codes = np.rint(FINE * values.detach().cpu().double().numpy().clip(0, 1)).astype("<u2")
        return {"shape": list(codes.shape), "codes": self._add(codes.tobytes())}

    def packed(self) -> str:
        """Return the whole block, compressed, as base64."""
        return base64.b64encode(gzip.compress(b"".join(self.parts), 6, mtime=0)).decode()

    def _add(self, content: bytes) -> int:
        start = self.size
        padded = content + bytes(-len(content) % 4)  # typed arrays begin at multiples of their size
        self.parts.append(padded)
        self.size += len(padded)
        return start
