"""OPERA: beam search with a penalty on attention that aggregates on one token of the reply, and rollback where it persists."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.data.tokens import EMITTING, Segment
from interp.decoding.loop import Decoding, DecodingLoop, Search
from interp.decoding.second_stream import ContrastProcessor
from interp.interventions.here import Here


@final
@dataclass(frozen=True)
class Opera(DecodingLoop):
    """Over-trust penalty and retrospection-allocation, a decoding loop.

    A beam search that considers only the `candidates` most likely tokens of each beam. Every candidate is run through the model, and
    the last layer's attention among the reply's tokens is read: the maximum over heads, each row divided by its sum over all keys,
    times `scale`. Column j has the score φ_j = 1e-7 Π_{i ≥ j} scale · A_ij, and the candidate's logit is reduced by
    `penalty` · max_j φ_j. While the reply has at most `warm_up` tokens, including the candidate, its logit is increased by `penalty`
    times its attention to the image instead. The penalised logits are normalised over the candidates of a beam.

    The column that is the maximum for most candidates of a beam is where the beam's attention aggregates. When this column has been
    the same more than `patience` times in every beam, and is at `warm_up` or later, the search rolls back to the position right after
    it and chooses again, without the tokens chosen there before; at most `retries` times per position.

    Args:
        beams: number of replies that are followed.
        candidates: number of tokens considered for each of them.
        scale: factor on attention.
        penalty: weight of the score.
        patience: how often the same column may be the largest.
        retries: the largest number of rollbacks to one position; 0 never rolls back. `Opera(beams=1, penalty=0, retries=0)` is neutral.
        warm_up: number of first tokens of the reply without the penalty.

    References: Huang et al., OPERA (CVPR 2024), Eq. 4-8, and its released code (shikiw/OPERA). Differs: the release keeps φ in
    float16, where it overflows; here it is a logarithm until the last step. After a rollback, the choice is among the candidates by
    their penalised logits, where the release chooses among all tokens by plain logits. All candidates run in one pass.
    """

    beams: int = 5
    candidates: int = 5
    scale: float = 50.0
    penalty: float = 1.0
    patience: int = 15
    retries: int = 5
    warm_up: int = 10
    procedure: ClassVar[str] = "a beam search of its own"

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: fewer than one beam or candidate, or a negative setting.
        """
        if self.beams < 1 or self.candidates < 1:
            raise ValueError(f"OPERA takes at least one beam and one candidate, got {self.beams} and {self.candidates}")
        others = {n: getattr(self, n) for n in ("scale", "penalty", "patience", "retries", "warm_up")}
        if min(others.values()) < 0:
            raise ValueError(f"{', '.join(others)} are at least 0, got {', '.join(map(str, others.values()))}")

    @property
    def passes(self) -> int:
        """One for each candidate of each beam, all in one batch; a rollback takes more."""
        return self.beams * self.candidates

    def search(self, decoding: Decoding) -> Search:
        """Return the beam search.

        Raises:
            ValueError: several beams together with a method whose second stream follows one reply.
        """
        if self.beams > 1 and any(isinstance(r, ContrastProcessor) for r in decoding.rules):
            raise ValueError(
                f"{self} follows {self.beams} beams, and contrastive decoding's second stream follows one reply: use one of them, "
                "or Opera(beams=1)"
            )
        return _BeamSearch(self, decoding)

    def over_trust(
        self, window: Float[Tensor, "candidate query key"]
    ) -> tuple[Float[Tensor, " candidate"], Int[Tensor, " candidate"]]:
        """Return the largest column score of each candidate and its column, from the scaled attention among the reply's tokens."""
        logs = (self.scale * window.double()).clamp_min(1e-300).log()
        columns = math.log(1e-7) + logs.tril().sum(-2)  # tril: entries above the diagonal do not count
        largest, where = columns.max(-1)
        # exp(88) is the limit of float32, and a penalty of exp(80) excludes a candidate anyway.
        return largest.clamp_max(80).exp().to(window.dtype), where

    def rollback(self, columns: Sequence[Sequence[int]]) -> int | None:
        """Return the position to roll back to, right after the column that has persisted in every beam; None to go on.

        Args:
            columns: at every step so far, the column at which each beam's attention aggregates.
        """
        column = max(sorted(set(columns[-1])), key=columns[-1].count)
        often = [[step[beam] for step in columns].count(column) for beam in range(self.beams)]
        return column + 1 if column >= self.warm_up and min(often) > self.patience else None


@final
@dataclass(frozen=True)
class _Beams:
    """The unfinished replies, before their next token is chosen.

    Args:
        ids: their tokens.
        totals: their scores.
        logprobs: the log-probability of every token.
        window: attention among their tokens, each row divided by its sum over all keys.
        logits: of the next token.
        columns: at every step so far, the column at which each beam's attention aggregates.
        finished: the best replies that have ended: score per token, tokens, log-probabilities.
    """

    ids: Int[Tensor, "candidate token"]
    totals: Float[Tensor, " candidate"]
    logprobs: Float[Tensor, "candidate token"]
    window: Float[Tensor, "candidate query key"]
    logits: Float[Tensor, "candidate vocab"]
    columns: tuple[tuple[int, ...], ...] = ()
    finished: tuple[tuple[float, list[int], list[float]], ...] = ()

    def per_token(self) -> list[float]:
        """Return the score per token of every reply."""
        return (self.totals / max(self.ids.shape[1], 1)).tolist()


@final
class _BeamSearch(Search):
    """One search: the model's continuation of all beams, and the tokens chosen at each position."""

    def __init__(self, method: Opera, decoding: Decoding) -> None:
        last, sites = frozenset({decoding.model.layers - 1}), frozenset({("decoder", "pattern")})
        self.text = decoding.continuation(reads=sites, layers=last, rows=EMITTING, reader=self._read)
        self.method, self.decoding = method, decoding
        self.row = self.image_share = decoding.prompt_ids.new_empty(0)
        self.past: list[_Beams] = []
        self.chosen: dict[int, set[tuple[int, int]]] = {}
        self.banned: dict[int, set[tuple[int, int]]] = {}
        self.returns: dict[int, int] = {}

    def _read(self, value: Tensor, here: Here) -> Tensor:
        """Record the newest row, the maximum over heads divided by its sum, and the image's share of it."""
        row = value[:, :, -1].float().amax(1)
        self.row = row / row.sum(-1, keepdim=True)
        self.image_share = (self.row * here.keys(Segment.IMAGE)[:, 0, 0]).sum(-1)
        return value

    def tokens(self) -> Iterator[tuple[int, float]]:
        """Yield the tokens of the best reply and their log-probabilities, once the search has ended."""
        yield from zip(*self._best(), strict=True)

    @torch.no_grad()
    def _best(self) -> tuple[list[int], list[float]]:
        """Return the tokens of the best reply and their log-probabilities."""
        logits, limit = self.text.read(), self.decoding.max_new_tokens
        zeros = logits.new_zeros
        now = _Beams(self.decoding.prompt_ids[:, :0], zeros(1), zeros(1, 0), zeros(1, 0, 0), logits)
        while now.ids.shape[1] < limit and len(now.ids) and not self._done(now):
            now = self._step(now)
        going = list(zip(now.per_token(), now.ids.tolist(), now.logprobs.tolist(), strict=True))
        replies = [*now.finished, *(going if now.ids.shape[1] == limit else ())]
        return max(replies, key=lambda reply: reply[0])[1:]

    def _done(self, now: _Beams) -> bool:
        """Return whether as many replies as beams have ended, and no unfinished one is better."""
        return len(now.finished) == self.method.beams and now.finished[-1][0] >= max(now.per_token())

    def _step(self, now: _Beams) -> _Beams:
        """Return the beams with one more token, or those of an earlier step to choose from again."""
        at, width = now.ids.shape[1], len(now.ids)
        ruled = self.decoding.process(now.ids, now.logits)
        top = ruled.topk(min(self.method.candidates, ruled.shape[-1]))
        each = top.indices.shape[1]
        owner = torch.arange(width, device=now.ids.device).repeat_interleave(each)
        token = top.indices.flatten()
        self.text.select(owner)
        logits = self.text.step(token)
        window = torch.nn.functional.pad(now.window[owner], (0, 1, 0, 1))
        window[:, -1] = self.row[:, -at - 1 :]
        trust, column = self.method.over_trust(window)
        trust = -self.image_share if at + 1 <= self.method.warm_up else trust
        most = column.view(width, each).mode(-1).values.tolist()
        columns = (*now.columns, tuple(most[i % width] for i in range(self.method.beams)))
        back = self.method.rollback(columns)
        if back is not None and self._may_return(back, at):
            return self._return_to(back, at)
        penalised = (top.values - self.method.penalty * trust.view(width, each)).log_softmax(-1)
        said = now.logits.log_softmax(-1).gather(-1, top.indices).flatten()
        more = _Beams(
            torch.cat([now.ids[owner], token[:, None]], 1),
            (now.totals[:, None] + penalised).flatten(),
            torch.cat([now.logprobs[owner], said[:, None]], 1),
            window,
            logits,
            columns,
            now.finished,
        )
        self.past[at:] = [now]
        return self._choose(more, list(zip(owner.tolist(), token.tolist(), strict=True)))

    def _choose(self, more: _Beams, pairs: list[tuple[int, int]]) -> _Beams:
        """Return the best of the candidates, given as pairs of a beam and a token; those that end are moved to `finished`."""
        at, beams, ends = more.ids.shape[1] - 1, self.method.beams, self.decoding.ends
        totals, kept, finished = more.totals.tolist(), list[int](), list(more.finished)
        banned = self.banned.get(at, set())
        allowed = [i for i, pair in enumerate(pairs) if pair not in banned and totals[i] > -math.inf]
        # Twice as many as beams: enough unfinished ones remain even if the best of each beam ends here.
        ranked = sorted(allowed, key=lambda i: -totals[i])[: 2 * beams]
        for rank, i in enumerate(ranked):
            if pairs[i][1] not in ends:
                kept.append(i)
            elif rank < beams:
                finished.append((totals[i] / (at + 1), more.ids[i].tolist(), more.logprobs[i].tolist()))
        kept = kept[:beams]
        self.chosen[at] = {pairs[i] for i in kept}
        rows = torch.tensor(kept, dtype=torch.long, device=more.ids.device)
        self.text.select(rows)
        best = tuple(sorted(finished, key=lambda reply: -reply[0])[:beams])
        return replace(
            more,
            ids=more.ids[rows],
            totals=more.totals[rows],
            logprobs=more.logprobs[rows],
            window=more.window[rows],
            logits=more.logits[rows],
            finished=best,
        )

    def _may_return(self, place: int, at: int) -> bool:
        """Return whether a position is an earlier one, has rollbacks left, and has enough other candidates."""
        if not 0 < place < at or self.returns.get(place, 0) >= self.method.retries:
            return False
        tried = self.banned.get(place, set()) | self.chosen[place]
        return len(self.past[place].ids) * self.method.candidates - len(tried) >= self.method.beams

    def _return_to(self, place: int, at: int) -> _Beams:
        """Return the beams before the token at a position, with the tokens chosen there excluded from now on."""
        self.returns[place] = self.returns.get(place, 0) + 1
        self.banned = {p: b for p, b in self.banned.items() if p <= place}
        self.banned[place] = self.banned.get(place, set()) | self.chosen[place]
        before = self.past[place]
        # The cache does not hold the earlier beams: cut it back to the prompt, copy that for every beam, and run their tokens again.
        self.text.cut(at + 1)
        self.text.select(torch.zeros(len(before.ids), dtype=torch.long, device=before.ids.device))
        for token in before.ids.T:
            self.text.step(token)
        return before
