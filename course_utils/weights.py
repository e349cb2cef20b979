"""Trained networks of the course, to look at one at once. Used from chapter 06 on.

They lie in `results/weights/`: `NAME.safetensors`, what it scores on test (`NAME.json`), and a
card that says what it is (`NAME.md`). `results/writing/cards.py` makes all three.
"""

import shlex
from pathlib import Path

from torch import Tensor, nn

from course_utils import experiments, ledger, storage

SEED, PROFILE = 0, "standard"
"""The run whose weights are kept, of an experiment's main arm: fixed beforehand, not the best."""


def from_pretrained(name: str) -> nn.Module:
    """The main arm of an experiment, as recorded in the ledger with seed 0.

    Args:
        name: of an experiment with stored weights, for instance "isic2017".

    Returns:
        The model in evaluation mode, on the CPU, in float32. `results/weights/NAME.md` says on what
        it was trained, what it scores and what it is not good for.

    Raises:
        ValueError: no such experiment, no stored weights, they are damaged, or they are of a
            network of another size.
    """
    experiment = experiments.get(name)
    path = file(name)
    if not path.exists():
        known = ", ".join(sorted(other.stem for other in path.parent.glob("*.safetensors")))
        raise ValueError(
            f"No weights of {name!r} are stored. Expected one of: {known or 'none yet'}. "
            f"`{training(name)}` and then `course weights {name}` train and store them."
        )
    model = experiment.model(experiment.main, SEED, PROFILE)
    try:
        model.load_state_dict(stored(name))  # into float32
    except RuntimeError as problem:  # other names or shapes
        raise ValueError(
            f"{path.name} holds another network than course_utils/tasks describes now. It was "
            f"changed after the run: record it again with `course experiment {name}`."
        ) from problem
    return model.eval()


def training(name: str) -> str:
    """The command that trains the network whose weights are kept, as one types it."""
    return f"course experiment {name} --seeds 1 --arm {shlex.quote(experiments.get(name).main)}"


def file(name: str) -> Path:
    """Where the stored weights lie; beside them what was measured (.json) and the card (.md)."""
    return ledger.folder() / "weights" / f"{name}.safetensors"


def stored(name: str) -> dict[str, Tensor]:
    """The stored tensors, in half precision."""
    own = f"git checkout -- results/weights/{name}.safetensors"
    remedy = f"Get the course's own: {own}. Weights of your own: course weights {name}"
    return storage.load_tensors(file(name), remedy)[0]
