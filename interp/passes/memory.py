"""Estimates the memory of a pass before it runs, and refuses a pass that does not fit."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch

WHOLE_GRAPH = 2**28
"""How many bytes the graph of all layers may hold before `measure` runs layers twice instead, if it is left the choice: 256 MiB."""


@final
@dataclass(frozen=True)
class Estimate:
    """How much memory a capture takes, in bytes.

    Args:
        kept: what is returned, without the attention of the vision tower and the Q-Former, whose tokens are counted only when they run.
        during: what the pass holds beyond the weights at its fullest, roughly.
        available: what is free where the model is.
    """

    kept: int
    during: int
    available: int

    def __str__(self) -> str:
        """Return the figures in gibibytes."""
        kept, during, free = (x / 2**30 for x in (self.kept, self.during, self.available))
        return f"keeps {kept:.2f} GiB, holds about {during:.2f} GiB during the pass, {free:.1f} GiB are free"


@final
@dataclass(frozen=True)
class Sizes:
    """What determines the memory of a pass: sizes of a model and a conversation, and the bytes of a number.

    Args:
        rows: how many query rows of scores and pattern are read.
        graded: in how many rows projections and MLP are part of the graph.
    """

    layers: int
    tokens: int
    rows: int
    graded: int
    heads: int
    kv_heads: int
    head_dim: int
    dim: int
    vocabulary: int
    itemsize: int

    def of(self, site: str) -> int:
        """Return how many numbers a site of one layer has; 0 for those outside the decoder layers."""
        if site in ("attn_scores", "pattern"):
            return self.heads * self.rows * self.tokens
        if site in ("q", "z", "k", "v"):
            return self.tokens * self.head_dim * (self.heads if site in ("q", "z") else self.kv_heads)
        inside = site in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")
        return self.tokens * self.dim if inside else 0


def one_layer(sizes: Sizes) -> int:
    """Return what a layer works with where there are no gradients, in bytes: pattern and scores, queries, keys, values and the MLP."""
    half = sizes.itemsize < 4  # the softmax is made in float32 and copied
    return sizes.itemsize * ((4 if half else 2) * sizes.of("pattern") + 16 * sizes.of("resid_pre"))


def whole_graph(sizes: Sizes) -> int:
    """Return what the graph of all layers holds until the backward pass has gone through it, and what a step of that works with."""
    return sizes.layers * _graph(sizes) + _backward(sizes)


def layer_by_layer(sizes: Sizes) -> int:
    """Return what is held where layers run twice: what enters each of them, and the graph of one with the backward pass through it."""
    return sizes.itemsize * sizes.layers * sizes.of("resid_pre") + _graph(sizes) + _backward(sizes)


def _graph(sizes: Sizes) -> int:
    """Return what the graph of one layer keeps: its pattern, and about 24 times its stream, most of it in projections and MLP."""
    half = sizes.itemsize < 4
    streams = (3 * sizes.tokens + 21 * sizes.graded) * sizes.dim
    return sizes.itemsize * ((3 if half else 1) * sizes.of("pattern") + streams)


def _backward(sizes: Sizes) -> int:
    """Return what the backward pass through one layer works with: gradients of pattern, softmax and scores."""
    return sizes.itemsize * (4 * sizes.of("pattern") + 12 * sizes.of("resid_pre"))


def available(device: torch.device) -> int:
    """Return how many bytes are free on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        return next(
            int(line.split()[1]) * 1024 for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable")
        )
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def afford(needs: Estimate) -> None:
    """Refuse what does not fit.

    Raises:
        MemoryError: with what to ask for instead.
    """
    if needs.during > needs.available:
        raise MemoryError(
            f"this pass {needs}. Ask for fewer rows (queries=interp.EMITTING), fewer layers (layers=range(8, 16)), "
            "a smaller dtype (dtype=torch.float16), or use measure(...), which keeps one layer at a time"
        )
