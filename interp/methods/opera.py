"""OPERA: beam search that is penalised for resting on one token of the reply, and goes back where it rested too long."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessorList, MinNewTokensLengthLogitsProcessor

from interp.data.prompt import Prompt, Reply
from interp.data.tokens import EMITTING, Segment
from interp.decoding.generate import end_tokens, reply_of
from interp.decoding.stream import Continuation
from interp.interventions.base import Here, Intervention
from interp.interventions.method import Method
from interp.methods.contrast import Contrasted

OPTIONS = ("max_new_tokens", "min_new_tokens", "seed", "on_token")
"""The options of `generate` that this decoding loop knows."""


@final
@dataclass(frozen=True)
class Opera(Method):
    """Over-trust penalty and retrospection-allocation, a decoding loop.

    A beam search whose only choices are the `candidates` likeliest tokens of each beam. Every candidate is read, and with it the
    last layer's attention among the reply's tokens: the maximum over heads, each row divided by its sum over all keys, times
    `scale`. Column j of that has the score φ_j = 1e-7 Π_{i ≥ j} scale · A_ij, and the candidate's logit loses `penalty` · max_j φ_j.
    While the reply has no more than `warm_up` tokens, the candidate included, its logit gains `penalty` times its attention to
    the image instead. How likely a candidate is counts relative to the others of its beam.

    The column that most candidates and beams have as their maximum is where the reply rests. When it has been the same more
    than `patience` times in every beam, and is no earlier than `warm_up`, the search goes back to right behind it and chooses
    again, without what it chose there; `retries` times at most for one place.

    Args:
        beams: how many replies are followed.
        candidates: how many tokens of each are considered.
        scale: what attention is multiplied by.
        penalty: how much the score counts.
        patience: how often the same column may be the largest.
        retries: how often one place is gone back to; 0 never goes back. `Opera(beams=1, penalty=0, retries=0)` is neutral.
        warm_up: how many tokens of the reply are left without the penalty.

    References: Huang et al., OPERA (CVPR 2024), Eq. 4-8, and its released code (shikiw/OPERA). Differs: the release keeps φ in
    float16, where it overflows, and here it is a logarithm until the end; a place is chosen again among the candidates, by their
    penalised logits, where the release chooses among all tokens, by plain ones; all candidates are read in one pass.
    """

    beams: int = 5
    candidates: int = 5
    scale: float = 50.0
    penalty: float = 1.0
    patience: int = 15
    retries: int = 5
    warm_up: int = 10

    def __post_init__(self) -> None:
        """Refuse settings without a meaning.

        Raises:
            ValueError: fewer than one beam or candidate, or a negative setting.
        """
        if self.beams < 1 or self.candidates < 1:
            raise ValueError(f"OPERA takes at least one beam and one candidate, got {self.beams} and {self.candidates}")
        rest = {n: getattr(self, n) for n in ("scale", "penalty", "patience", "retries", "warm_up")}
        if min(rest.values()) < 0:
            raise ValueError(f"{', '.join(rest)} are at least 0, got {', '.join(map(str, rest.values()))}")

    @property
    def passes(self) -> int:
        """How many passes a token takes: one for each candidate of each beam, all in one batch; going back takes more."""
        return self.beams * self.candidates

    def misfit(self, options: Mapping[str, Any]) -> str | None:
        """Say which options this loop does not know."""
        unknown = sorted(set(options) - set(OPTIONS))
        if not unknown:
            return None
        own = f"it is a beam search of its own, with {self.beams} beams"
        return f"{own}, and does not know {', '.join(unknown)}; it knows {', '.join(OPTIONS)}"

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return none: it acts on the choice of tokens."""
        return ()

    @property
    def decodes(self) -> bool:
        """Whether this brings a decoding loop: yes."""
        return True

    def decode(
        self, model: Any, prompt: Prompt, interventions: Sequence[Intervention], rules: Sequence[Any], **options: Any
    ) -> Reply:
        """Return the best reply of the search under some interventions and logits processors.

        Raises:
            ValueError: several beams beside a method whose second stream follows one reply.
        """
        if self.beams > 1 and any(isinstance(r, Contrasted) for r in rules):
            raise ValueError(
                f"{self} follows {self.beams} beams, and contrastive decoding's second stream follows one reply: use one of them, "
                "or Opera(beams=1)"
            )
        ends, limit = end_tokens(model), options.get("max_new_tokens", 128)
        least = MinNewTokensLengthLogitsProcessor(
            len(prompt), options.get("min_new_tokens") or 0, list(ends) or [0], model.device
        )
        search = _Search(self, model, prompt, interventions, LogitsProcessorList([*rules, least]))
        ids, logprobs = search.best(limit, ends)
        say: Callable[[str], None] | None = options.get("on_token")
        if say is not None:
            for token in ids:
                say(model.tokenizer.decode([token]))  # only now is it settled
        search.text.now.close()
        return reply_of(model, prompt, ids, logprobs, ends, tuple(search.text.now.audit), limit)

    def over_trust(
        self, window: Float[Tensor, "candidate query key"]
    ) -> tuple[Float[Tensor, " candidate"], Int[Tensor, " candidate"]]:
        """Return the score of the column that the reply rests on most, and which it is, for attention among its tokens."""
        logs = (self.scale * window.double()).clamp_min(1e-300).log()
        columns = math.log(1e-7) + logs.tril().sum(-2)  # above the diagonal nothing is counted
        largest, where = columns.max(-1)
        return largest.clamp_max(80).exp().to(window.dtype), where

    def place(self, rested: Sequence[Sequence[int]]) -> int | None:
        """Return the position to choose again, right behind where every beam rested too long; None to go on."""
        column = max(sorted(set(rested[-1])), key=rested[-1].count)
        often = [[step[beam] for step in rested].count(column) for beam in range(self.beams)]
        return column + 1 if column >= self.warm_up and min(often) > self.patience else None


@final
@dataclass(frozen=True)
class _Beams:
    """The replies on their way, before their next token is chosen.

    Args:
        ids: their tokens.
        totals: their scores.
        logprobs: the log-probability of every token.
        window: attention among their tokens, each row divided by its sum over all keys.
        logits: of the next token.
        rested: at every step so far, which column each beam rested on.
        finished: the best replies that have ended: score per token, tokens, log-probabilities.
    """

    ids: Int[Tensor, "candidate token"]
    totals: Float[Tensor, " candidate"]
    logprobs: Float[Tensor, "candidate token"]
    window: Float[Tensor, "candidate query key"]
    logits: Float[Tensor, "candidate vocab"]
    rested: tuple[tuple[int, ...], ...] = ()
    finished: tuple[tuple[float, list[int], list[float]], ...] = ()

    def per_token(self) -> list[float]:
        """Return the score per token of every reply."""
        return (self.totals / max(self.ids.shape[1], 1)).tolist()


@final
class _Search:
    """One search: the model's continuation of all beams, and what was chosen where."""

    def __init__(
        self,
        method: Opera,
        model: Any,
        prompt: Prompt,
        interventions: Sequence[Intervention],
        rules: LogitsProcessorList,
    ) -> None:
        last, sites = frozenset({model.layers - 1}), frozenset({("decoder", "pattern")})
        self.text = Continuation(
            model, [prompt], interventions, wanted=sites, layers=last, rows=EMITTING, reader=self._read
        )
        self.method, self.rules = method, rules
        self.prompt = model.inputs([prompt])["input_ids"]
        self.row = self.looks = self.prompt.new_empty(0)
        self.past: list[_Beams] = []
        self.chosen: dict[int, set[tuple[int, int]]] = {}
        self.banned: dict[int, set[tuple[int, int]]] = {}
        self.returns: dict[int, int] = {}

    def _read(self, value: Tensor, here: Here) -> Tensor:
        """Keep the newest row, the maximum over heads divided by its sum, and how much of it the image has."""
        row = value[:, :, -1].float().amax(1)
        self.row = row / row.sum(-1, keepdim=True)
        self.looks = (self.row * here.keys(Segment.IMAGE)[:, 0, 0]).sum(-1)
        return value

    @torch.no_grad()
    def best(self, limit: int, ends: set[int]) -> tuple[list[int], list[float]]:
        """Return the tokens of the best reply and their log-probabilities."""
        logits = self.text.read()
        zeros = logits.new_zeros
        now = _Beams(self.prompt[:, :0], zeros(1), zeros(1, 0), zeros(1, 0, 0), logits)
        while now.ids.shape[1] < limit and len(now.ids) and not self._settled(now):
            now = self._step(now, ends)
        going = list(zip(now.per_token(), now.ids.tolist(), now.logprobs.tolist(), strict=True))
        replies = [*now.finished, *(going if now.ids.shape[1] == limit else ())]
        return max(replies, key=lambda reply: reply[0])[1:]

    def _settled(self, now: _Beams) -> bool:
        """Say whether as many replies as there are beams have ended, and none that goes on is better."""
        return len(now.finished) == self.method.beams and now.finished[-1][0] >= max(now.per_token())

    def _step(self, now: _Beams, ends: set[int]) -> _Beams:
        """Return the beams with one more token, or those of an earlier step to choose from again."""
        at, width = now.ids.shape[1], len(now.ids)
        ruled = self.rules(torch.cat([self.prompt.expand(width, -1), now.ids], 1), now.logits.clone())
        top = ruled.topk(min(self.method.candidates, ruled.shape[-1]))
        each = top.indices.shape[1]
        owner = torch.arange(width, device=now.ids.device).repeat_interleave(each)
        token = top.indices.flatten()
        self.text.select(owner)
        logits = self.text.step(token)
        window = torch.nn.functional.pad(now.window[owner], (0, 1, 0, 1))
        window[:, -1] = self.row[:, -at - 1 :]
        trust, column = self.method.over_trust(window)
        trust = -self.looks if at + 1 <= self.method.warm_up else trust
        beside = column.view(width, each).mode(-1).values.tolist()
        rested = (*now.rested, tuple(beside[i % width] for i in range(self.method.beams)))
        back = self.method.place(rested)
        if back is not None and self._may_return(back, at):
            return self._returned(back, at)
        penalised = (top.values - self.method.penalty * trust.view(width, each)).log_softmax(-1)
        said = now.logits.log_softmax(-1).gather(-1, top.indices).flatten()
        more = _Beams(
            torch.cat([now.ids[owner], token[:, None]], 1),
            (now.totals[:, None] + penalised).flatten(),
            torch.cat([now.logprobs[owner], said[:, None]], 1),
            window,
            logits,
            rested,
            now.finished,
        )
        self.past[at:] = [now]
        return self._taken(more, list(zip(owner.tolist(), token.tolist(), strict=True)), ends)

    def _taken(self, more: _Beams, pairs: list[tuple[int, int]], ends: set[int]) -> _Beams:
        """Return the best of the candidates, given as pairs of a beam and a token; those that end are put aside."""
        at, beams = more.ids.shape[1] - 1, self.method.beams
        totals, kept, finished = more.totals.tolist(), list[int](), list(more.finished)
        banned = self.banned.get(at, set())
        allowed = [i for i, pair in enumerate(pairs) if pair not in banned and totals[i] > -math.inf]
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
        """Say whether a place lies behind, was not gone back to too often, and has other candidates left."""
        if not 0 < place < at or self.returns.get(place, 0) >= self.method.retries:
            return False
        tried = self.banned.get(place, set()) | self.chosen[place]
        return len(self.past[place].ids) * self.method.candidates - len(tried) >= self.method.beams

    def _returned(self, place: int, at: int) -> _Beams:
        """Return the beams as they were before the token at a place, with what was chosen there forbidden."""
        self.returns[place] = self.returns.get(place, 0) + 1
        self.banned = {p: b for p, b in self.banned.items() if p <= place}
        self.banned[place] = self.banned.get(place, set()) | self.chosen[place]
        before = self.past[place]
        self.text.cut(at + 1)
        self.text.select(torch.zeros(len(before.ids), dtype=torch.long, device=before.ids.device))  # the prompt of each
        for token in before.ids.T:
            self.text.step(token)
        return before
