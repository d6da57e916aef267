"""The figures of a study, as PNG files."""

import io

import pytest
from PIL import Image

from interp.report.study_figures import StudyFigure, draw_figures


@pytest.fixture(scope="module")
def figures(study) -> dict[str, StudyFigure]:
    return draw_figures(study)


def test_every_figure_is_a_picture_with_title_and_caption(figures) -> None:
    assert len(figures) == 10
    for name, figure in figures.items():
        assert figure.name == name
        assert figure.title
        assert figure.caption.endswith((".", ". "))
        with Image.open(io.BytesIO(figure.png)) as image:
            assert image.format == "PNG"
            assert min(image.size) > 200


def test_captions_name_the_sink_and_the_word(figures, study) -> None:
    assert study.shown.word.strip() in figures["attention"].title
    assert "Heads that attend to" in figures["heads"].title
    assert f"{len(study.replies)} replies" in figures["layers"].caption
