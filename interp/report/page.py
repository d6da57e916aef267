"""The report as one HTML file that needs nothing else: pictures embedded, the model's words escaped."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from interp.plot import visible
from interp.report.asking import Outcome
from interp.report.pictures import Picture
from interp.report.study import Study
from interp.report.summary import Table, share, tables
from interp.world import Scene, mentions

TITLE = "Inside a small vision-language model"
REPLY = "reply.html"
"""The file beside the page that shows one reply token by token."""


def page(study: Study, pictures: Mapping[str, Picture], facts: Mapping[str, Any]) -> str:
    """Return the page.

    Args:
        study: what was found.
        pictures: by name.
        facts: the command, the seconds and the versions, as in the summary.
    """
    template = Template(files("interp.report").joinpath("page.html").read_text(encoding="utf-8"))
    made = tables(study)
    groups = {
        "reply": ("scene", "attention", "saliency"),
        "words": ("words",),
        "resting": ("sinks", "heads", "massive"),
        "share": ("layers", "steps"),
        "effects": ("effects",),
    }
    drawn = {f"{group}_pictures": "".join(_figure(pictures[n]) for n in names) for group, names in groups.items()}
    return template.substitute(
        drawn,
        title=TITLE,
        lead=_lead(study),
        facts=_facts(study),
        ability_text=_ability_text(study),
        ability_table=table(made["ability"]),
        example_table=table(made["examples"], kind="spoken"),
        reply_text=_reply_text(study),
        inside_text=_inside_text(study),
        resting_text=_resting_text(study),
        resting_table=table(made["resting"]),
        effects_text=_effects_text(study),
        treatments=_treatments(study.outcomes[1:]),
        effects_table=table(made["effects"]),
        spoken_table=_spoken(study),
        command=escape(str(facts["command"])),
        seconds=f"{facts['seconds']:.0f}",
        model=escape(study.model),
        n=study.n,
        seed=study.seed,
        versions=escape(", ".join(f"{name} {number}" for name, number in facts["versions"].items())),
    )


def table(given: Table, *, kind: str = "") -> str:
    """Return a table as HTML, everything in it escaped."""
    heads = "".join(f"<th>{escape(h)}</th>" for h in given.heads)
    rows = "".join(
        f"<tr><th>{escape(first)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in rest)}</tr>"
        for first, *rest in given.rows
    )
    return (
        f'<div class="wide {kind}"><table><caption>{escape(given.title)}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def marked(caption: str, scene: Scene) -> str:
    """Return a caption as HTML, escaped, with the objects that are not there marked."""
    written, last = [], 0
    for mention in mentions(caption):
        if mention.name not in scene.present:
            written += [
                escape(caption[last : mention.start]),
                f"<mark>{escape(caption[mention.start : mention.end])}</mark>",
            ]
            last = mention.end
    return "".join([*written, escape(caption[last:])])


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode()
    title, caption = escape(picture.title), escape(picture.caption)
    return f'<figure><h3>{title}</h3><img alt="{title}" src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'


def _lead(study: Study) -> str:
    return (
        f"<code>{escape(study.model)}</code> was trained on drawn scenes whose every object is known. "
        f"Here it meets {study.n} scenes that it never saw: what can it do, what does it attend to while it answers, "
        "and what breaks when the tokens its attention rests on are taken away?"
    )


def _facts(study: Study) -> str:
    before, rest = study.outcomes[0], study.rest
    said = " and ".join(visible(w) for w in rest.words)
    boxes = [
        (_percent(before.yes_no.accuracy.value), "of yes/no questions right"),
        (_percent(before.captions.recall.value), "of visible objects named in captions"),
        (_percent(before.captions.chair_s.value), "of captions invent an object"),
        (said, "is an attention sink" if rest.found else "is attended to most (no sink)"),
        (_percent(study.outcomes[1].yes_no.accuracy.value), "of yes/no questions right when it is masked"),
    ]
    return "".join(f"<li><b>{escape(value)}</b>{escape(text)}</li>" for value, text in boxes)


def _ability_text(study: Study) -> str:
    yes = study.outcomes[0].yes_no.yes
    return (
        "Half of the yes/no questions are about objects that are there, half about objects that are not: some drawn at "
        f"random, some that the scene leads one to expect. It says yes to {share(yes)} of them. Other questions count as "
        "right when the answer is right word for word. Captions are asked for with "
        f"“{escape(study.questions.captions[0].text)}”."
    )


def _reply_text(study: Study) -> str:
    shown = study.shown
    reply, word = study.outcomes[0].said[study.questions.about.index(shown.scene)], escape(shown.word.strip())
    if shown.named:
        there = "which is there" if shown.objects else "of which there is none in the image"
        chosen = f"the object word “{word}”, {there}"
    else:
        chosen = f"its token “{word}”, because it names no object"
    return (
        f"Asked for a description, the model says: “{marked(reply, shown.scene)}” One pass over the question and this "
        "reply, forward and backward, gives the attention of every layer, its gradient and the residual stream. "
        f"The pictures are about {chosen} (token {shown.at} of the reply). "
        f'<a href="{REPLY}">Every other token of it, by layer and head, and under the changes of part 4</a>.'
    )


def _inside_text(study: Study) -> str:
    inside = study.inside
    if not inside:
        return "None of the replies looked at names an object that is there, so attention could not be compared with places."
    return (
        f"Over {inside['replies']:.0f} replies, the box of the object that is being named covers "
        f"{_percent(inside['area'])} of the image and gets {_percent(inside['attention'])} of the attention on the image "
        f"and {_percent(inside['saliency'])} of the saliency (means)."
    )


def _resting_text(study: Study) -> str:
    rest = study.rest
    pairs = zip(rest.words, rest.positions, strict=True)
    said = " and ".join(f"“{escape(visible(w))}” (position {p})" for w, p in pairs)
    what = (
        "An attention sink is a token that much of the attention rests on whatever is said: a token is a sink of a layer "
        "when it gets more than 0.3 of the attention of those that see it, and a sink of the model when that holds in a "
        f"third of the layers. Over {rest.looked} replies"
    )
    if rest.found:
        return f"{what} these are: {said}."
    return (
        f"{what} no token is one in at least half of them. What follows is about the most attended token before the "
        f"image instead, {said}; do not read it as a sink."
    )


def _effects_text(study: Study) -> str:
    before, masked, control = study.outcomes[:3]
    (answers, captions), (others, also) = (o.differs(before) for o in (masked, control))
    accuracy = [share(o.yes_no.accuracy) for o in (before, masked, control)]
    return (
        "The same questions and captions again, with one thing changed. "
        f"With the {escape(masked.treatment.name)}, {answers.hits} of {answers.n} answers and {captions.hits} of "
        f"{captions.n} captions are not what they were; with the {escape(control.treatment.name)}, {others.hits} and "
        f"{also.hits}. Yes/no accuracy is {accuracy[0]} before, {accuracy[1]} and {accuracy[2]} after."
    )


def _treatments(outcomes: Sequence[Outcome]) -> str:
    items = (
        f"<li><b>{escape(o.treatment.name)}.</b> {escape(o.treatment.explanation)}{f' <i>{escape(o.note)}</i>' if o.note else ''}</li>"
        for o in outcomes
    )
    return f"<ul>{''.join(items)}</ul>"


def _spoken(study: Study) -> str:
    scene = study.shown.scene
    index = study.questions.about.index(scene)
    rows = "".join(
        f"<tr><th>{escape(o.treatment.name)}</th><td>{marked(o.said[index], scene)}</td></tr>" for o in study.outcomes
    )
    rows += f"<tr><th>the truth</th><td>{escape(scene.captions['detailed'])}</td></tr>"
    title = "The same caption under each change; objects that are not there are marked"
    return f'<div class="wide spoken"><table><caption>{title}</caption><tbody>{rows}</tbody></table></div>'


def _percent(value: float) -> str:
    return "–" if value != value else f"{100 * value:.0f} %"  # noqa: PLR0124 (not a number)
