"""`render_study`: the page about the embedded model as one HTML file, figures embedded, all model output escaped."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from interp.plot import format_token
from interp.report.collect import Study
from interp.report.exam import Outcome
from interp.report.study_figures import StudyFigure
from interp.report.study_tables import StudyTable, build_tables, format_rate
from interp.world import Scene, mentions

REPLY_FILE = "reply.html"
"""The file beside the page that shows one reply token by token."""
_TITLE = "Inside a small vision-language model"


def render_study(study: Study, figures: Mapping[str, StudyFigure], summary: Mapping[str, Any]) -> str:
    """Return the page.

    Args:
        study: the content of the page.
        figures: the figures by name.
        summary: the summary, for command, duration and versions.
    """
    template = Template(files("interp.report").joinpath("study.html").read_text(encoding="utf-8"))
    tables = build_tables(study)
    groups = {
        "reply": ("scene", "attention", "saliency"),
        "words": ("words",),
        "sinks": ("sinks", "heads", "massive"),
        "shares": ("layers", "steps"),
        "effects": ("effects",),
    }
    drawn = {f"{group}_figures": "".join(_figure(figures[n]) for n in names) for group, names in groups.items()}
    return template.substitute(
        drawn,
        title=_TITLE,
        lead=_lead(study),
        facts=_facts(study),
        ability_text=_ability_text(study),
        ability_table=render_table(tables["ability"]),
        example_table=render_table(tables["examples"], kind="texts"),
        reply_text=_reply_text(study),
        inside_text=_inside_text(study),
        sinks_text=_sinks_text(study),
        sinks_table=render_table(tables["sinks"]),
        effects_text=_effects_text(study),
        variants=_variants(study.outcomes[1:]),
        effects_table=render_table(tables["effects"]),
        captions_table=_captions_table(study),
        command=escape(str(summary["command"])),
        seconds=f"{summary['seconds']:.0f}",
        model=escape(study.model),
        n=study.n,
        seed=study.seed,
        versions=escape(", ".join(f"{name} {number}" for name, number in summary["versions"].items())),
    )


def render_table(table: StudyTable, *, kind: str = "") -> str:
    """Return a table as HTML with all cells escaped."""
    heads = "".join(f"<th>{escape(h)}</th>" for h in table.heads)
    rows = "".join(
        f"<tr><th>{escape(first)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in rest)}</tr>"
        for first, *rest in table.rows
    )
    return (
        f'<div class="wide {kind}"><table><caption>{escape(table.title)}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def mark_invented(caption: str, scene: Scene) -> str:
    """Return a caption as escaped HTML in which the objects that are not in the scene are marked."""
    written, last = [], 0
    for mention in mentions(caption):
        if mention.name not in scene.present:
            written += [
                escape(caption[last : mention.start]),
                f"<mark>{escape(caption[mention.start : mention.end])}</mark>",
            ]
            last = mention.end
    return "".join([*written, escape(caption[last:])])


def _figure(figure: StudyFigure) -> str:
    data = base64.b64encode(figure.png).decode()
    title, caption = escape(figure.title), escape(figure.caption)
    return f'<figure><h3>{title}</h3><img alt="{title}" src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'


def _lead(study: Study) -> str:
    return (
        f"<code>{escape(study.model)}</code> was trained on drawn scenes, in which every object is known. This page tests it on "
        f"{study.n} held-out scenes: how accurate its answers are, what it attends to while it answers, and which answers change "
        "when its attention sinks are masked."
    )


def _facts(study: Study) -> str:
    baseline, sinks = study.outcomes[0], study.sinks
    words = " and ".join(format_token(w) for w in sinks.words)
    boxes = [
        (_percent(baseline.yes_no.accuracy.value), "of yes/no questions answered correctly"),
        (_percent(baseline.captions.recall.value), "of visible objects named in captions"),
        (_percent(baseline.captions.chair_s.value), "of captions invent an object"),
        (words, "is an attention sink" if sinks.found else "receives the most attention (no sink)"),
        (_percent(study.outcomes[1].yes_no.accuracy.value), "of yes/no questions answered correctly when it is masked"),
    ]
    return "".join(f"<li><b>{escape(value)}</b>{escape(text)}</li>" for value, text in boxes)


def _ability_text(study: Study) -> str:
    yes = study.outcomes[0].yes_no.yes
    return (
        "Half of the yes/no questions ask about objects in the scene, half about absent ones: some chosen at random, some that the "
        f"scene makes likely. The model answers yes to {format_rate(yes)} of them. Other questions count as correct when the "
        f"answer matches exactly. The prompt for captions is “{escape(study.exam.captions[0].text)}”."
    )


def _reply_text(study: Study) -> str:
    shown = study.shown
    reply, word = study.outcomes[0].texts[study.shown_index], escape(shown.word.strip())
    if shown.named:
        truth = "which is in the image" if shown.objects else "which is not in the image"
        chosen = f"the object word “{word}”, {truth}"
    else:
        chosen = f"its token “{word}”, because the reply names no object"
    return (
        f"Asked for a description, the model replies: “{mark_invented(reply, shown.scene)}” One pass over the question and this "
        "reply, forward and backward, gives the attention of every layer, its gradient, and the residual stream. "
        f"The figures explain {chosen} (token {shown.at} of the reply). "
        f'<a href="{REPLY_FILE}">The page about this reply</a> shows every token, layer and head, also under the interventions of part 4.'
    )


def _inside_text(study: Study) -> str:
    inside = study.inside
    if not inside:
        return "None of the viewed replies names an object of its scene, so attention could not be compared with the objects' boxes."
    return (
        f"Over {inside['replies']:.0f} replies, the box of the named object covers {_percent(inside['area'])} of the image and "
        f"receives {_percent(inside['attention'])} of the attention on the image and {_percent(inside['saliency'])} of the "
        "saliency (means)."
    )


def _sinks_text(study: Study) -> str:
    sinks = study.sinks
    pairs = zip(sinks.words, sinks.positions, strict=True)
    words = " and ".join(f"“{escape(format_token(w))}” (position {p})" for w, p in pairs)
    definition = (
        "An attention sink is a token that receives much attention whatever the text is about. A token is a sink of a layer "
        "when it receives more than 0.3 of the attention of the tokens that can see it, and a sink of the model when that holds in "
        f"a third of the layers. Over {sinks.replies} replies,"
    )
    if sinks.found:
        return f"{definition} the sinks are: {words}."
    return (
        f"{definition} no token is a sink in at least half of them. The following figures show the most attended token before the "
        f"image instead, {words}, which is not a sink."
    )


def _effects_text(study: Study) -> str:
    baseline, masked, control = study.outcomes[:3]
    (answers, captions), (others, also) = (o.differs(baseline) for o in (masked, control))
    accuracy = [format_rate(o.yes_no.accuracy) for o in (baseline, masked, control)]
    return (
        "The same questions and captions, each time under one intervention. "
        f"Under “{escape(masked.variant.name)}”, {answers.hits} of {answers.n} answers and {captions.hits} of {captions.n} "
        f"captions differ from the baseline; under “{escape(control.variant.name)}”, {others.hits} and {also.hits}. Yes/no "
        f"accuracy is {accuracy[0]} in the baseline, {accuracy[1]} and {accuracy[2]} under the two interventions."
    )


def _variants(outcomes: Sequence[Outcome]) -> str:
    items = (
        f"<li><b>{escape(o.variant.name)}.</b> {escape(o.variant.explanation)}{f' <i>{escape(o.note)}</i>' if o.note else ''}</li>"
        for o in outcomes
    )
    return f"<ul>{''.join(items)}</ul>"


def _captions_table(study: Study) -> str:
    scene, index = study.shown.scene, study.shown_index
    rows = "".join(
        f"<tr><th>{escape(o.variant.name)}</th><td>{mark_invented(o.texts[index], scene)}</td></tr>"
        for o in study.outcomes
    )
    rows += f"<tr><th>truth</th><td>{escape(scene.captions['detailed'])}</td></tr>"
    title = "The caption of one scene under every variant; invented objects are marked"
    return f'<div class="wide texts"><table><caption>{title}</caption><tbody>{rows}</tbody></table></div>'


def _percent(value: float) -> str:
    return "–" if value != value else f"{100 * value:.0f} %"  # noqa: PLR0124 (not a number)
