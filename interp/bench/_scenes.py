"""The drawn scenes of benchmarks with `data="scenes"`."""

from functools import lru_cache

from interp.world import Scene, scenes


@lru_cache(maxsize=4)
def load_scenes(split: str, n: int, seed: int) -> tuple[Scene, ...]:
    """Return the first n scenes of a split, cached."""
    return tuple(scenes(split, n, seed))
