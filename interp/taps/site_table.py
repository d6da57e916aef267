"""The site table: what happens at which site of which layer, worked out once before a pass runs.

A tap asks one question, `table.get((part, layer))`. A layer that nothing observes has no entry.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import final

from interp.data.sites import INSIDE_ATTENTION, SCORE_SITES, SITES
from interp.data.tokens import EVERY, Tokens, tokens
from interp.taps.spec import PassSpec


@final
@dataclass(frozen=True)
class SiteRecord:
    """What happens at one site of one layer.

    Args:
        acting: the interventions that act there, in order, as positions in `PassSpec.interventions`.
        read: whether the reader is given the value.
        begins: whether gradients begin there, where nothing before has one.
    """

    acting: tuple[int, ...]
    read: bool
    begins: bool


@final
@dataclass(frozen=True)
class LayerRecord:
    """What happens in one layer of one part.

    Args:
        sites: the observed sites: those that are read or changed, or where gradients begin.
        inside: those of them that lie inside attention.
        rows: the selections whose query rows need eager scores and pattern; None for all rows, empty for none.
        local: whether gradients stay within one position.
        frees_scores: whether scores that were read may be overwritten: the reader copies them and no intervention holds them.
    """

    sites: Mapping[str, SiteRecord]
    inside: frozenset[str]
    rows: frozenset[Tokens] | None
    local: bool
    frees_scores: bool

    def changes(self, site: str) -> bool:
        """Return whether an intervention acts at a site."""
        return site in self.sites and bool(self.sites[site].acting)


SiteTable = Mapping[tuple[str, int], LayerRecord]
"""The records of the layers in which anything is observed, by part and layer."""


def site_table(spec: PassSpec, layers: Mapping[str, int]) -> SiteTable:
    """Return the site table of a pass.

    Args:
        spec: what the pass reads and changes.
        layers: the number of layers of every part of the model.
    """
    if not spec.interventions and not spec.reads and not spec.gradient and not spec.local:
        return {}
    table: dict[tuple[str, int], LayerRecord] = {}
    # Layers in which the same happens share one record, so that what belongs to it is looked up by identity.
    shared: dict[object, LayerRecord] = {}
    for part, count in layers.items():
        for layer in range(count):
            sites, local = _sites(spec, part, layer), _local(spec, part, layer)
            if sites or local:
                key = (part == "decoder", local, tuple(sites.items()))
                if key not in shared:
                    shared[key] = _record(spec, part, sites, local)
                table[part, layer] = shared[key]
    return MappingProxyType(table)


def _sites(spec: PassSpec, part: str, layer: int) -> dict[str, SiteRecord]:
    """Return the observed sites of a layer, in forward order."""
    decoder, chosen = part == "decoder", spec.layers is None or layer in spec.layers
    every = SITES if decoder else INSIDE_ATTENTION
    sites = {}
    acts: dict[str, tuple[int, ...]] = {}
    for position, intervention in enumerate(spec.interventions):
        for site in every:
            if intervention.acts_at(part, site, layer):
                acts[site] = (*acts.get(site, ()), position)
    for site in every:
        acting = acts.get(site, ())
        read = (part, site) in spec.reads and (chosen or not decoder)
        # The stream carries gradients through the layers that are not read.
        begins = decoder and spec.gradient and site in spec.begins and (chosen or site == "resid_pre")
        if acting or read or begins:
            sites[site] = SiteRecord(acting, read, begins)
    return sites


def _local(spec: PassSpec, part: str, layer: int) -> bool:
    """Return whether gradients stay within one position: from the first layer that is read on."""
    return spec.local and part == "decoder" and (spec.layers is None or layer >= min(spec.layers))


def _record(spec: PassSpec, part: str, sites: dict[str, SiteRecord], local: bool) -> LayerRecord:
    scores = [sites[name] for name in SCORE_SITES if name in sites]
    rows = {tokens(spec.interventions[i].queries) for s in scores for i in s.acting}
    if local or [s for s in scores if s.read]:
        rows.add(spec.rows)
    # Outside the decoder tokens have no roles, so rows cannot be told apart.
    every = EVERY in rows or (bool(rows) and part != "decoder")
    held = "attn_scores" in sites and bool(sites["attn_scores"].acting)
    return LayerRecord(
        MappingProxyType(sites),
        frozenset(sites) & frozenset(INSIDE_ATTENTION),
        None if every else frozenset(rows),
        local,
        spec.copies and part == "decoder" and not held,
    )
