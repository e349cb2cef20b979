"""Trained networks of the course, to look at one at once. Used from chapter 06 on.

`course weights NAME` takes the weights of a recorded run from `build/weights/`, where every run
leaves them, and puts them into `results/weights/` in half the bytes: `NAME.safetensors`. The half
precision network is then scored on test (`NAME.json`), and its card says what it is (`NAME.md`).
`course weights NAME --card` does that for a file that is stored already.
"""

import hashlib
import json
import shlex
from pathlib import Path

from torch import Tensor, nn

from course_utils import experiments, ledger, storage
from course_utils.datasets import load

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
    path = _path(name)
    if not path.exists():
        stored = sorted(file.stem for file in path.parent.glob("*.safetensors"))
        raise ValueError(
            f"No weights of {name!r} are stored. Expected one of: {', '.join(stored) or 'none yet'}"
            f". `course experiment {name} --seeds 1 --arm {_arm(name)}` and then "
            f"`course weights {name}` train and store them."
        )
    model = experiment.model(experiment.main, SEED, PROFILE)
    try:
        model.load_state_dict(_stored(name))  # into float32
    except RuntimeError as problem:  # other names or shapes
        raise ValueError(
            f"{path.name} holds another network than course_utils/tasks describes now. It was "
            f"changed after the run: record it again with `course experiment {name}`."
        ) from problem
    return model.eval()


def _arm(name: str) -> str:
    """The main arm, as one types it."""
    return shlex.quote(experiments.get(name).main)


def _path(name: str) -> Path:
    """The stored weights; beside them lie what was measured (.json) and the card (.md)."""
    return ledger.folder() / "weights" / f"{name}.safetensors"


def _stored(name: str) -> dict[str, Tensor]:
    own = f"git checkout -- results/weights/{name}.safetensors"
    remedy = f"Get the course's own: {own}. Weights of your own: course weights {name}"
    return storage.load_tensors(_path(name), remedy)[0]


def publish(name: str) -> None:
    """Store the weights of the recorded run in half precision, measure them, write their card.

    Raises:
        ValueError: the run is not in the ledger, or its weights are not on this machine or damaged.
    """
    run, source = (
        _run(name),
        experiments.weights_file(name, experiments.get(name).main, SEED, PROFILE),
    )
    if not run or not source.exists():
        raise ValueError(
            f"Run `course experiment {name} --seeds 1 --arm {_arm(name)}` on this machine first: "
            + ("the ledger has no such run." if not run else f"{source.name} is not there.")
        )
    again = f"COURSE_RESULTS=build/again course experiment {name} --seeds 1 --arm {_arm(name)}"
    tensors, _ = storage.load_tensors(source, f"Train them again, beside the ledger: {again}")
    halves = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
    about = {key: json.dumps(run[key]) for key in ("experiment", "arm", "seed", "data_sha256")}
    storage.save_tensors(halves, _path(name), about)
    measure(name)


def measure(name: str) -> None:
    """Score the stored weights on test as a reader gets them, and write `NAME.json` and the card.

    Raises:
        ValueError: as `from_pretrained`, or the data are not those of the recorded run.
    """
    experiment, run, model = experiments.get(name), _run(name), from_pretrained(name)
    data = load(experiment.dataset)
    if not run or data.sha256 != run["data_sha256"]:
        raise ValueError(
            f"The stored weights of {name!r} were recorded on other data than those that can be "
            f"reached now (source {data.source}), or their run is not in the ledger."
        )
    options, path = experiment.options(PROFILE), _path(name)
    found = {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "precision": "32-true",  # `predict` computes in full precision, whatever training did
        "metrics": experiment.report(model, data, **options),
        "cases": experiment.cases(model, data, **options),
    }
    storage.write(path.with_suffix(".json"), json.dumps(found, indent=1) + "\n")
    storage.write(path.with_suffix(".md"), card(name))


def _run(name: str) -> dict:
    """The line of the ledger whose weights are kept; empty if there is none."""
    wanted, runs = (experiments.get(name).main, SEED), ledger.select(name, profile=PROFILE)
    return next((run for run in reversed(runs) if (run["arm"], run["seed"]) == wanted), {})


def card(name: str) -> str:
    """The model card, in Markdown: data, licence, training, metrics, limits.

    It is `weights.md`, filled in from the ledger and from what `measure` found; a test compares.
    """
    from course_utils.datasets import CATALOG

    experiment, run, measured = experiments.get(name), _run(name), ledger.measured(name)
    if not run or not measured:
        raise ValueError(
            f"A card of {name!r} needs its run in the ledger and a measured file: run "
            f"`course weights {name} --card`."
        )
    data = CATALOG[run["dataset"]]
    task = getattr(experiment.cases, "func", experiment.cases).__module__.replace(".", "/")
    aside = ("core_seconds", "best_epoch")
    aside += tuple(key for key in measured["metrics"] if key.startswith("val_"))  # not of test
    intervals = {k: f"{low:.3f} to {high:.3f}" for k, (low, high) in measured["cases"].items()}
    on_test = "\n".join(
        f"| {key} | {value:.4f} | {intervals.get(key, '')} |"
        for key, value in measured["metrics"].items()
        if key not in aside
    )
    beside = "; ".join(f"{k} {run['metrics'][k]:.4g}" for k in aside if k in run["metrics"])
    facts = dict(name=name, experiment=experiment, run=run, measured=measured, data=data)
    facts |= dict(task=task, on_test=on_test, beside=beside, defects="; ".join(data.defects))
    last = experiment.monitor == "epoch"
    facts |= dict(chosen="the last epoch is kept" if last else "validation chose the epoch")
    facts |= dict(settings=experiment.profiles[run["profile"]])
    facts |= dict(numbers=sum(tensor.numel() for tensor in _stored(name).values()))
    return Path(__file__).with_suffix(".md").read_text("utf-8").format(**facts)
