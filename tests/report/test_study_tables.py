"""The numbers of a study, as JSON data and as tables."""

import json

import interp
from interp.report.study_tables import build_tables, format_rate, summarise_study
from interp.world.scoring import Rate


def test_the_summary_is_the_numbers(study) -> None:
    facts = json.loads(json.dumps(summarise_study(study, "interp demo --n 3", 1.5)))
    assert (facts["command"], facts["seed"], facts["n"]) == ("interp demo --n 3", 0, 3)
    before = facts["outcomes"][0]
    assert before["yes_no"]["accuracy"]["hits"] == study.outcomes[0].yes_no.accuracy.hits
    assert [o["variant"] for o in facts["outcomes"]] == [o.variant.name for o in study.outcomes]
    again = interp.interventions.base.from_dict(facts["outcomes"][1]["interventions"][0])
    assert again == study.outcomes[1].variant.interventions[0]


def test_every_row_of_a_table_is_as_wide_as_its_heads(study) -> None:
    for made in build_tables(study).values():
        assert {len(row) for row in made.rows} == {len(made.heads)}


def test_rates_have_their_interval() -> None:
    assert format_rate(Rate(3, 10)) == "30 % (11 to 60)"
    assert format_rate(Rate(0, 0)) == "none"
