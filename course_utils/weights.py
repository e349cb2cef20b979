"""Trained networks of the course, to look at one at once. Used from chapter 06 on.

`course weights NAME` takes the weights of a recorded run from `build/weights/`, where every run
leaves them, and puts them into `results/weights/` in half the bytes, with a card that says what
they are: `NAME.safetensors` and `NAME.md`.
"""

import json

from torch import nn

from course_utils import experiments, ledger

ARM, SEED, PROFILE = "attention", 0, "standard"
"""The run whose weights are kept: fixed beforehand, not the best one."""


def from_pretrained(name: str) -> nn.Module:
    """The network of an experiment, with attention, as recorded in the ledger with seed 0.

    Args:
        name: of an experiment with stored weights: "pneumonia", "hippocampus", "isic2017", "bccd".

    Returns:
        The model in evaluation mode, on the CPU, in float32. `results/weights/NAME.md` says on what
        it was trained, what it scores and what it is not good for.

    Raises:
        ValueError: no such experiment, no stored weights, or they are of a network of another size.
    """
    from safetensors.torch import load_file

    experiment = experiments.get(name)
    path = ledger.folder() / "weights" / f"{name}.safetensors"
    if not path.exists():
        stored = sorted(file.stem for file in path.parent.glob("*.safetensors"))
        raise ValueError(
            f"No weights of {name!r} are stored. Expected one of: {', '.join(stored) or 'none yet'}"
            f". `course experiment {name} --seeds 1 --arm {ARM}` and then `course weights {name}` "
            "train and store them."
        )
    model = experiment.model(ARM, SEED, PROFILE)
    tensors, wanted = load_file(path), model.state_dict()
    if {k: v.shape for k, v in tensors.items()} != {k: v.shape for k, v in wanted.items()}:
        raise ValueError(
            f"{path.name} holds another network than experiments.py describes now. The table was "
            f"changed after the run: record it again with `course experiment {name}`."
        )
    model.load_state_dict({k: v.to(wanted[k].dtype) for k, v in tensors.items()})
    return model.eval()


def publish(name: str) -> None:
    """Store the weights of the recorded run and write their card.

    Raises:
        ValueError: the run is not in the ledger, or its weights are not on this machine.
    """
    from safetensors.torch import load_file, save_file

    experiment = experiments.get(name)
    runs = [
        run
        for run in ledger.select(name, profile=PROFILE)
        if run["arm"] == ARM and run["seed"] == SEED
    ]
    source = experiments.weights_file(name, ARM, SEED, PROFILE)
    if not runs or not source.exists():
        raise ValueError(
            f"Run `course experiment {name} --seeds 1 --arm {ARM}` on this machine first: "
            + ("the ledger has no such run." if not runs else f"{source.name} is not there.")
        )
    tensors = load_file(source)
    halves = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
    folder = ledger.folder() / "weights"
    folder.mkdir(parents=True, exist_ok=True)
    about = {key: json.dumps(runs[-1][key]) for key in ("experiment", "arm", "seed", "data_sha256")}
    save_file(halves, folder / f"{name}.safetensors", metadata=about)
    text = card(experiment, runs[-1], sum(v.numel() for v in tensors.values()))
    (folder / f"{name}.md").write_text(text, encoding="utf-8")


def card(experiment: experiments.Experiment, run: dict, numbers: int) -> str:
    """The model card, in Markdown: data, licence, training, metrics, limits."""
    from course_utils.datasets.catalog import CATALOG

    data = CATALOG[run["dataset"]]
    settings = experiment.profiles[run["profile"]]
    aside = ("core_seconds", "best_epoch", "val_auroc", "val_threshold")  # not of the test set
    on_test = "\n".join(
        f"| {key} | {value:.4g} |" for key, value in run["metrics"].items() if key not in aside
    )
    beside = "; ".join(f"{k} {run['metrics'][k]:.4g}" for k in aside if k in run["metrics"])
    return f"""# {experiment.title}

Weights of one recorded run: arm "{run["arm"]}", seed {run["seed"]}, profile {run["profile"]}. The
seed was fixed beforehand; other seeds score a little more or less, see
[the ledger](../{experiment.name}.jsonl). {numbers:,} numbers in half precision.

- Network and training: `course_utils/experiments.py`, "{experiment.name}": {settings["size"]},
  {settings["fit"]}. From scratch, on the training images; validation chose the epoch.
- Data: {data.title}, {run["split"]}, source "{run["source"]}". Licence of the data:
  {data.licence}. {data.citation}
- Trained in {run["seconds"]:.0f} s on {run["device"]}, {run["precision"]}; {beside}.
- Licence of the weights: that of the data where it asks for it, else CC BY 4.0.

| metric, on test | value |
|---|---|
{on_test}

Limits: trained to teach. One data set, one way of taking the images, no outside test; scores fall
where images differ. Not for use on patients. Known defects of the data: {"; ".join(data.defects)}.
"""
