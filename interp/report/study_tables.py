"""The numbers of a study: `summarise_study` as JSON data, `build_tables` as tables for the page and the terminal."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final, final

from interp.plot import format_token
from interp.report.collect import Study
from interp.report.exam import Outcome
from interp.report.reply_view import SHARES
from interp.world.scoring import Rate

_KIND_NAMES: Final = {
    "colour": "what colour something is",
    "where": "where something is",
    "count": "how many there are",
    "place": "what place it is",
    "at": "what is somewhere",
}
"""The kinds of questions, in words."""


@final
@dataclass(frozen=True)
class StudyTable:
    """A small table with a title and column heads; the first cell of a row names it."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def format_rate(value: Rate) -> str:
    """Return a rate with its interval, in per cent."""
    if not value.n:
        return "none"
    low, high = value.interval
    return f"{100 * value.value:.0f} % ({100 * low:.0f} to {100 * high:.0f})"


def build_tables(study: Study) -> dict[str, StudyTable]:
    """Return the tables of the study by name."""
    return {
        "ability": _ability(study),
        "sinks": _sinks(study),
        "effects": _effects(study),
        "examples": _examples(study),
    }


def _ability(study: Study) -> StudyTable:
    baseline = study.outcomes[0]
    yes_no, captions = baseline.yes_no, baseline.captions
    rows = [
        ("yes/no questions answered correctly", format_rate(yes_no.accuracy), str(yes_no.accuracy.n)),
        ("answers yes about an absent object", format_rate(yes_no.false_yes), str(yes_no.false_yes.n)),
        ("answers no about a present object", format_rate(yes_no.false_no), str(yes_no.false_no.n)),
        *((f"{_KIND_NAMES[kind]}, exact match", format_rate(r), str(r.n)) for kind, r in baseline.others.items()),
        ("captions: visible objects named (recall)", format_rate(captions.recall), str(captions.recall.n)),
        ("captions that invent an object (CHAIR_s)", format_rate(captions.chair_s), str(captions.chair_s.n)),
        ("mentions that are invented (CHAIR_i)", format_rate(captions.chair_i), str(captions.chair_i.n)),
    ]
    return StudyTable(f"Accuracy on {study.n} held-out scenes", ("", "share (95 % interval)", "cases"), tuple(rows))


def _sinks(study: Study) -> StudyTable:
    sinks = study.sinks
    rows = [
        (
            f"{format_token(word)} at {position}",
            f"{scenes} of {sinks.replies}",
            ", ".join(map(str, layers)) or "none",
            f"{received:.2f}",
        )
        for position, word, scenes, layers, received in zip(
            sinks.positions, sinks.words, sinks.scenes, sinks.layers, sinks.received, strict=True
        )
    ]
    rows.append(
        (f"{format_token(sinks.control_word)} at {sinks.control} (control)", "", "", f"{sinks.control_received:.2f}")
    )
    title = "Attention sinks" if sinks.found else "No sink by the default thresholds; the most attended token"
    return StudyTable(title, ("token", "a sink in replies", "in layers", "attention received (maximum)"), tuple(rows))


def _effects(study: Study) -> StudyTable:
    baseline, columns = study.outcomes[0], []
    for outcome in study.outcomes:
        answers, captions = outcome.differs(baseline)
        columns.append(
            (
                format_rate(outcome.yes_no.accuracy),
                format_rate(outcome.yes_no.yes),
                format_rate(_pooled(outcome)),
                format_rate(outcome.captions.recall),
                format_rate(outcome.captions.chair_s),
                format_rate(outcome.captions.chair_i),
                f"{outcome.tokens:.0f}",
                format_rate(outcome.ended),
                "" if outcome is baseline else f"{answers.hits} of {answers.n}",
                "" if outcome is baseline else f"{captions.hits} of {captions.n}",
            )
        )
    quantities = (
        *("yes/no correct", "answers yes", "other questions correct", "recall", "CHAIR_s", "CHAIR_i"),
        *("tokens per caption", "captions ended", "answers changed", "captions changed"),
    )
    heads = ("", *(o.variant.name for o in study.outcomes))
    title = "The same questions and captions under every variant"
    return StudyTable(title, heads, tuple(zip(quantities, *columns, strict=True)))


def _examples(study: Study) -> StudyTable:
    shown, baseline = study.shown.scene, study.outcomes[0]
    rows = [("caption", baseline.texts[study.shown_index], shown.captions["detailed"])]
    asked = (*study.exam.yes_no, *study.exam.others)
    for (question, prompt), answer in zip(asked, baseline.answers, strict=True):
        if any(question is one for one in shown.questions):
            verdict = "✓" if answer == question.answer else "✗"
            rows.append((prompt.text, f"{verdict} {answer}", question.answer))
    return StudyTable("Answers about the scene shown below", ("", "model", "truth"), tuple(rows))


def _pooled(outcome: Outcome) -> Rate:
    return Rate(sum(r.hits for r in outcome.others.values()), sum(r.n for r in outcome.others.values()))


def summarise_study(study: Study, command: str, seconds: float) -> dict[str, Any]:
    """Return every number of the study as JSON data, with command, seed and versions."""
    sinks, shown = study.sinks, study.shown
    return {
        "command": command,
        "model": study.model,
        "n": study.n,
        "seed": study.seed,
        "seconds": round(seconds, 1),
        "versions": {"python": platform.python_version()}
        | {p: version(p) for p in ("interp", "torch", "transformers", "nnsight")},
        "outcomes": [_outcome(o, study.outcomes[0]) for o in study.outcomes],
        "sinks": {
            "found": sinks.found,
            "positions": sinks.positions,
            "words": sinks.words,
            "scenes": sinks.scenes,
            "replies": sinks.replies,
            "layers": sinks.layers,
            "received": _rounded(sinks.received),
            "control": {
                "position": sinks.control,
                "word": sinks.control_word,
                "received": round(sinks.control_received, 4),
            },
        },
        "shares": {
            "parts": SHARES,
            "by_layer": _rounded(study.by_layer.tolist()),
            "by_step": _rounded(study.by_step.tolist()),
        },
        "shown": {
            "reply": study.outcomes[0].texts[study.shown_index],
            "word": shown.word,
            "index": shown.at,
        },
        "inside_the_box": {k: round(v, 4) for k, v in study.inside.items()},
    }


def _outcome(outcome: Outcome, baseline: Outcome) -> dict[str, Any]:
    answers, captions = outcome.differs(baseline)
    return {
        "variant": outcome.variant.name,
        "explanation": outcome.variant.explanation,
        "interventions": [c.to_dict() for c in outcome.variant.interventions],
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
