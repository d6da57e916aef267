"""The scenes that the world's own benchmarks ask about."""

from functools import lru_cache

from interp.world import Scene, scenes


@lru_cache(maxsize=4)
def load_scenes(split: str, n: int, seed: int) -> tuple[Scene, ...]:
    """Return the first n scenes of a split; the same ones are made once."""
    return tuple(scenes(split, n, seed))
