"""The report's numbers: as plain data for a file, and as tables for a page or a screen."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final, final

from interp.plot import visible
from interp.report.asking import Outcome
from interp.report.looking import PARTS
from interp.report.study import Study
from interp.world.scoring import Rate

ASKED: Final = {
    "colour": "what colour something is",
    "where": "where something is",
    "count": "how many there are",
    "place": "what place it is",
    "at": "what is somewhere",
}
"""Kinds of questions in words."""


@final
@dataclass(frozen=True)
class Table:
    """A small table: a title, the heads of its columns, its rows; the first column names the row."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def share(value: Rate) -> str:
    """Return a rate with its interval, in per cent."""
    if not value.n:
        return "none"
    low, high = value.interval
    return f"{100 * value.value:.0f} % ({100 * low:.0f} to {100 * high:.0f})"


def tables(study: Study) -> dict[str, Table]:
    """Return the tables of the report by name."""
    return {
        "ability": _ability(study),
        "resting": _resting(study),
        "effects": _effects(study),
        "examples": _examples(study),
    }


def _ability(study: Study) -> Table:
    before = study.outcomes[0]
    yes_no, captions = before.yes_no, before.captions
    rows = [
        ("yes/no questions right", share(yes_no.accuracy), str(yes_no.accuracy.n)),
        ("says yes where nothing of the kind is there", share(yes_no.false_yes), str(yes_no.false_yes.n)),
        ("says no where it is there", share(yes_no.false_no), str(yes_no.false_no.n)),
        *((f"{ASKED[kind]}, word for word", share(r), str(r.n)) for kind, r in before.others.items()),
        ("captions: visible objects named (recall)", share(captions.recall), str(captions.recall.n)),
        ("captions that invent an object (CHAIR_s)", share(captions.chair_s), str(captions.chair_s.n)),
        ("mentions that are invented (CHAIR_i)", share(captions.chair_i), str(captions.chair_i.n)),
    ]
    return Table(
        f"What the model can do on {study.n} scenes it never saw", ("", "share (95 % interval)", "cases"), tuple(rows)
    )


def _resting(study: Study) -> Table:
    rest = study.rest
    rows = [
        (
            f"{visible(word)} at {position}",
            f"{scenes} of {rest.looked}",
            ", ".join(map(str, layers)) or "none",
            f"{received:.2f}",
        )
        for position, word, scenes, layers, received in zip(
            rest.positions, rest.words, rest.scenes, rest.layers, rest.received, strict=True
        )
    ]
    rows.append((f"{visible(rest.control_word)} at {rest.control} (control)", "", "", f"{rest.control_received:.2f}"))
    title = "Attention sinks" if rest.found else "No sink by the default bounds; the most attended token"
    return Table(title, ("token", "a sink in replies", "in layers", "attention received, at most"), tuple(rows))


def _effects(study: Study) -> Table:
    before, columns = study.outcomes[0], []
    for outcome in study.outcomes:
        answers, captions = outcome.differs(before)
        columns.append(
            (
                share(outcome.yes_no.accuracy),
                share(outcome.yes_no.yes),
                share(_together(outcome)),
                share(outcome.captions.recall),
                share(outcome.captions.chair_s),
                share(outcome.captions.chair_i),
                f"{outcome.tokens:.0f}",
                share(outcome.ended),
                "" if outcome is before else f"{answers.hits} of {answers.n}",
                "" if outcome is before else f"{captions.hits} of {captions.n}",
            )
        )
    quantities = (
        *("yes/no right", "says yes", "other questions right", "recall", "CHAIR_s", "CHAIR_i"),
        *("tokens a caption", "captions ended", "answers changed", "captions changed"),
    )
    heads = ("", *(o.treatment.name for o in study.outcomes))
    title = "The same questions and captions, before and after"
    return Table(title, heads, tuple(zip(quantities, *columns, strict=True)))


def _examples(study: Study) -> Table:
    shown, before = study.shown.scene, study.outcomes[0]
    rows = [("caption", before.said[study.questions.about.index(shown)], shown.captions["detailed"])]
    asked = (*study.questions.yes_no, *study.questions.others)
    for (question, prompt), answer in zip(asked, before.answers, strict=True):
        if any(question is one for one in shown.questions):
            verdict = "✓" if answer == question.answer else "✗"
            rows.append((prompt.text, f"{verdict} {answer}", question.answer))
    return Table("What it says about the scene shown below", ("", "the model", "the truth"), tuple(rows))


def _together(outcome: Outcome) -> Rate:
    return Rate(sum(r.hits for r in outcome.others.values()), sum(r.n for r in outcome.others.values()))


def summary(study: Study, command: str, seconds: float) -> dict[str, Any]:
    """Return every number of the report as plain data, with the command, the seed and the versions that made it."""
    rest, shown = study.rest, study.shown
    return {
        "command": command,
        "model": study.model,
        "n": study.n,
        "seed": study.seed,
        "seconds": round(seconds, 1),
        "versions": {"python": platform.python_version()}
        | {p: version(p) for p in ("interp", "torch", "transformers", "nnsight")},
        "outcomes": [_outcome(o, study.outcomes[0]) for o in study.outcomes],
        "resting": {
            "found": rest.found,
            "positions": rest.positions,
            "words": rest.words,
            "scenes": rest.scenes,
            "looked": rest.looked,
            "layers": rest.layers,
            "received": _rounded(rest.received),
            "control": {
                "position": rest.control,
                "word": rest.control_word,
                "received": round(rest.control_received, 4),
            },
        },
        "shares": {
            "parts": PARTS,
            "by_layer": _rounded(study.by_layer.tolist()),
            "by_step": _rounded(study.by_step.tolist()),
        },
        "shown": {
            "reply": study.outcomes[0].said[study.questions.about.index(shown.scene)],
            "word": shown.word,
            "index": shown.at,
        },
        "inside_the_box": {k: round(v, 4) for k, v in study.inside.items()},
    }


def _outcome(outcome: Outcome, before: Outcome) -> dict[str, Any]:
    answers, captions = outcome.differs(before)
    return {
        "treatment": outcome.treatment.name,
        "explanation": outcome.treatment.explanation,
        "changes": [c.to_dict() for c in outcome.treatment.interventions],
        "note": outcome.note,
        "yes_no": {
            n: getattr(outcome.yes_no, n).to_dict() for n in ("accuracy", "yes", "false_yes", "false_no", "unreadable")
        },
        "others": {kind: r.to_dict() for kind, r in outcome.others.items()},
        "captions": {n: getattr(outcome.captions, n).to_dict() for n in ("recall", "chair_s", "chair_i")},
        "tokens": round(outcome.tokens, 2),
        "ended": outcome.ended.to_dict(),
        "answers_changed": answers.to_dict(),
        "captions_changed": captions.to_dict(),
    }


def _rounded(values: Sequence[Any]) -> list[Any]:
    return [_rounded(v) if isinstance(v, (list, tuple)) else round(float(v), 4) for v in values]
