import pytest
import torch

from interp.data.heads import Heads
from interp.data.tokens import EMITTING, SINKS, Segment
from interp.interventions.attention import MaskAttention, ScalePattern, ScaleScores
from interp.interventions.files import read_interventions, write_interventions
from interp.interventions.stream import AddVector

BOTH = (
    ScaleScores(Segment.IMAGE, 1.15, Segment.USER | Segment.RESPONSE, layers=(9, 10)),
    ScalePattern(Segment.USER - SINKS, 0.0, EMITTING, heads=Heads(((0, 1), (3, 2))), above=0.4),
)


@pytest.mark.parametrize("name", ["interventions.yaml", "interventions.json"])
def test_what_is_saved_is_loaded(tmp_path, name):
    assert read_interventions(write_interventions(tmp_path / name, BOTH)) == BOTH


def write(tmp_path, text, name="interventions.yaml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_written_by_hand_names_tokens(tmp_path):
    path = write(
        tmp_path,
        """
        - kind: MaskAttention
          keys: SINKS
          queries: USER|RESPONSE
        - {kind: ScaleScores, keys: [0, 12], by: 0.5, mode: abs}
        """,
    )
    assert read_interventions(path) == (
        MaskAttention(SINKS, Segment.USER | Segment.RESPONSE),
        ScaleScores([0, 12], 0.5, mode="abs"),
    )
    assert read_interventions(write(tmp_path, "{kind: MaskAttention, keys: IMAGE}")) == (MaskAttention(Segment.IMAGE),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "- {kind: MaskAttentoin, keys: 0}",
            r"entry 0 of .*: unknown intervention 'MaskAttentoin' \(did you mean MaskAttention\?\); known: ",
        ),
        (
            "- {kind: MaskAttention, keys: 0}\n- {kind: ScaleScores, keys: 0, bye: 2}",
            r"entry 1 of .*ScaleScores has no setting bye \(did you mean by\?\)",
        ),
        (
            "- {kind: MaskAttention, keys: IMGE}",
            r"no tokens are called 'IMGE' \(did you mean IMAGE\?\); names: PAD, SYSTEM",
        ),
        ("- {kind: MaskAttention}", "entry 0 of .*keys"),
        ("just words", "does not hold a list of interventions"),
        ("- [1, 2]", "does not hold a list of interventions"),
        ("{a: [}", "is not YAML or JSON"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_is_not_understood_is_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_interventions(write(tmp_path, text))


def test_what_cannot_be_written_says_so(tmp_path):
    with pytest.raises(TypeError, match="an intervention that holds a tensor cannot be written to a text file"):
        write_interventions(tmp_path / "interventions.yaml", [AddVector(torch.ones(3))])
    with pytest.raises(FileNotFoundError):
        read_interventions(tmp_path / "none.yaml")
