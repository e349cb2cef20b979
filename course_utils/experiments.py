"""The table of what the course trains, and how a run is recorded. The tasks stand in `tasks`.

The notebooks, `course experiment` and the stored weights all read it, so that they cannot differ.
"""

import time
from pathlib import Path

from course_utils import fingerprint, ledger, runtime, storage
from course_utils.datasets import load
from course_utils.tasks import bags, bccd, hippocampus, isic2017, pneumonia, smears
from course_utils.tasks.experiment import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for task in (pneumonia, hippocampus, isic2017, bccd, bags, smears)
    for experiment in task.EXPERIMENTS
}


def get(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        ValueError: there is none; the message lists them.
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"No experiment {name!r}. Expected one of: {', '.join(EXPERIMENTS)}.")
    return EXPERIMENTS[name]


def run(name: str, arm: str, seed: int, profile: str) -> dict:
    """Train one arm with one seed, look at the test set once, and record the line of the ledger.

    Training goes on from a checkpoint in `build/checkpoints/` when an earlier call was cut off; it
    is deleted last, so that a full disk costs no training. The weights are left in
    `build/weights/`; `course weights` takes them from there.
    """
    experiment = get(name)
    data = load(experiment.dataset)
    model = experiment.model(arm, seed, profile)
    chosen = experiment.profiles[profile]
    key = fingerprint.short(profile, data.sha256, chosen, str(model))
    checkpoint = runtime.ROOT / "build" / "checkpoints" / f"{name}-{arm}-{seed}-{key}.safetensors"
    whole, busy = not checkpoint.exists(), time.process_time()
    fitted = experiment.fit(model, data, seed, profile, arm, checkpoint=checkpoint)
    if fitted.interrupted:
        raise KeyboardInterrupt
    began = time.perf_counter()
    report = experiment.report(fitted.model, data, **experiment.options(profile))
    found = {name: value for name, value in report.items() if value == value}  # NaN: undefined
    if whole:  # of all threads
        found["core_seconds"] = round(time.process_time() - busy, 1)
    storage.save_tensors(fitted.model.state_dict(), weights_file(name, arm, seed, profile))
    seconds = round(fitted.seconds + time.perf_counter() - began, 1)
    parameters = sum(p.numel() for p in model.parameters())
    loss = experiment.own_loss.get(arm, experiment.loss).__name__
    line: dict = dict(experiment=name, arm=arm, seed=seed, profile=profile)
    line |= dict(dataset=data.name, source=data.source, data_sha256=data.sha256, split=data.split)
    line["settings"] = chosen | {"arm": dict(parameters=parameters, loss=loss)}  # the arm's own
    line |= dict(metrics=found | {"best_epoch": fitted.best_epoch}, seconds=seconds)
    line |= dict(device=runtime.hardware(), precision=runtime.precision()[0])
    line |= dict(versions=runtime.versions(), revision=runtime.revision())
    ledger.record(line)
    checkpoint.unlink(missing_ok=True)
    return line


def weights_file(name: str, arm: str, seed: int, profile: str) -> Path:
    """Where a run leaves its weights on this machine."""
    return runtime.ROOT / "build" / "weights" / f"{name}-{arm}-{seed}-{profile}.safetensors"


def run_all(name: str, arms: list[str] | None = None, seeds: int = 5) -> None:
    """Record every arm with seeds 0 to `seeds - 1`; runs that stand in the ledger are not repeated.

    Raises:
        ValueError: the ledger holds runs of this experiment on other data: they would not compare;
            or the course's files were changed: nobody could repeat such a run.
    """
    experiment, profile = get(name), runtime.profile()
    ours = ledger.folder().resolve() == (runtime.ROOT / "results").resolve()
    if ours and runtime.revision().endswith("+"):
        raise ValueError(
            "The course's files differ from the last commit, so nobody could repeat this run. "
            "First commit your changes, or set COURSE_RESULTS to a folder of your own."
        )
    storage.try_writing(ledger.folder())
    data = load(experiment.dataset)
    old = [run for run in ledger.read(name) if run["profile"] == profile]
    other = {run["data_sha256"] for run in old} - {data.sha256}
    if other:
        raise ValueError(
            f"results/{name}.jsonl holds {profile} runs on other data ({', '.join(sorted(other))}) "
            f"than can be reached now ({data.sha256}, source {data.source}). Runs on different "
            "data do not compare: reach the first data again, or move the file away."
        )
    done = {(run["arm"], run["seed"]) for run in old}
    for seed in range(seeds):
        for arm in arms or list(experiment.arms):
            if (arm, seed) in done:
                print(f"{name} {arm} seed {seed}: recorded already")
                continue
            found = run(name, arm, seed, profile)
            shown = ", ".join(f"{k} {v:.3f}" for k, v in found["metrics"].items())
            print(f"{name} {arm} seed {seed}: {shown} ({found['seconds']:.0f} s)", flush=True)
