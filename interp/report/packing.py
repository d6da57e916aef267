"""Arrays in a page: 8 bits per entry with one scale per row, all in one compressed block.

The attention of one reply has layers × heads × tokens × keys entries, a million already for the embedded model; as JSON text, it would
make a page of tens of megabytes. `arrays.js` unpacks the block in the browser.
"""

import base64
import gzip
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from jaxtyping import Float
from torch import Tensor

_LEVELS = 255
_FINE_LEVELS = 65535


@final
@dataclass(eq=False)
class PackedArrays:
    """Arrays one after the other; adding one returns its description, with which the page finds it in the block."""

    parts: list[bytes] = field(default_factory=list)
    size: int = 0

    def add_rows(self, values: Float[Tensor, "*layer key"]) -> dict[str, Any]:
        """Add non-negative rows and return their description.

        Each entry is stored as round(255 √(v / m)), with the largest value m of its row, so v is off by at most m / 255.
        """
        array = values.detach().cpu().double().numpy()
        scale = array.max(-1, initial=0.0).astype("<f4")
        share = array / np.where(scale > 0, scale, 1.0)[..., None]
        # The square root spends the levels on small values: attention rows are dominated by a sink, and linear codes would round
        # everything beside it to zero.
        codes = np.rint(_LEVELS * np.sqrt(share.clip(0, 1))).astype(np.uint8)
        return {"shape": list(array.shape), "scale": self._add(scale.tobytes()), "codes": self._add(codes.tobytes())}

    def add_shares(self, values: Float[Tensor, "*layer segment"]) -> dict[str, Any]:
        """Add numbers in [0, 1], stored to 1 / 65535, and return their description."""
        # 16 bits, because the five shares of a row are shown to three digits and should sum to 1.
        codes = np.rint(_FINE_LEVELS * values.detach().cpu().double().numpy().clip(0, 1)).astype("<u2")
        return {"shape": list(codes.shape), "codes": self._add(codes.tobytes())}

    def encode(self) -> str:
        """Return the whole block, compressed, as base64."""
        # mtime=0 leaves the time out of the gzip header: equal arrays give an equal page.
        return base64.b64encode(gzip.compress(b"".join(self.parts), 6, mtime=0)).decode()

    def _add(self, content: bytes) -> int:
        start = self.size
        # JavaScript's typed arrays must start at a multiple of their element size.
        padded = content + bytes(-len(content) % 4)
        self.parts.append(padded)
        self.size += len(padded)
        return start
