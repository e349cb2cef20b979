"""Stores the weights of a recorded run, scores them and writes their card: `course weights`."""

import hashlib
import json
from pathlib import Path

from course_utils import experiments, ledger, storage, weights
from course_utils.datasets import CATALOG, load


def publish(name: str) -> None:
    """Store the weights of the recorded run in half precision, measure them, write their card.

    Every run leaves its weights in `build/weights/`, where they are taken from.

    Raises:
        ValueError: the run is not in the ledger, or its weights are not on this machine or damaged.
    """
    run, main = _run(name), experiments.get(name).main
    source = experiments.weights_file(name, main, weights.SEED, weights.PROFILE)
    if not run or not source.exists():
        raise ValueError(
            f"Run `{weights.training(name)}` on this machine first: "
            + ("the ledger has no such run." if not run else f"{source.name} is not there.")
        )
    again = f"COURSE_RESULTS=build/again {weights.training(name)}"
    tensors, _ = storage.load_tensors(source, f"Train them again, beside the ledger: {again}")
    halves = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
    about = {key: json.dumps(run[key]) for key in ("experiment", "arm", "seed", "data_sha256")}
    storage.save_tensors(halves, weights.file(name), about)
    measure(name)


def measure(name: str) -> None:
    """Score the stored weights on test as a reader gets them, and write `NAME.json` and the card.

    Raises:
        ValueError: as `from_pretrained`, or the data are not those of the recorded run.
    """
    experiment, run, model = experiments.get(name), _run(name), weights.from_pretrained(name)
    data = load(experiment.dataset)
    if not run or data.sha256 != run["data_sha256"]:
        raise ValueError(
            f"The stored weights of {name!r} were recorded on other data than those that can be "
            f"reached now (source {data.source}), or their run is not in the ledger."
        )
    options, path = experiment.options(weights.PROFILE), weights.file(name)
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
    wanted = experiments.get(name).main, weights.SEED
    runs = ledger.select(name, profile=weights.PROFILE)
    return next((run for run in reversed(runs) if (run["arm"], run["seed"]) == wanted), {})


def card(name: str) -> str:
    """The model card, in Markdown: data, licence, training, metrics, limits.

    It is `card.md`, filled in from the ledger and from what `measure` found; a test compares.
    """
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
    facts |= dict(numbers=sum(tensor.numel() for tensor in weights.stored(name).values()))
    return Path(__file__).with_name("card.md").read_text("utf-8").format(**facts)
