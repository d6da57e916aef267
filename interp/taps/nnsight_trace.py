"""The one file that knows nnsight: a model as nnsight sees it, for `Model.trace`.

In a trace every site of the decoder is observed, so every tap runs as a module, and nnsight reads and edits its output like that of any
other module: through the same door as a reader, after the interventions. `capture` and `measure` take their values by a reader alone.
nnsight wraps every module of a model for good, which would slow down whatever runs on the model afterwards.
"""

import warnings

from nnsight import NNsight
from torch import nn


def wrap(module: nn.Module) -> NNsight:
    """Return a model as nnsight sees it."""
    with warnings.catch_warnings():
        # Only its name differs there.
        warnings.filterwarnings("ignore", message=".*has a submodule named 'output'.*")
        return NNsight(module)
