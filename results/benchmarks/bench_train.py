"""How fast does the course train, beside what people use otherwise?

`course bench train` asks two questions on one machine, in one number format, all candidates in
turn, so that what else the machine does meets all alike.

Pipelines: the SAME network, loss and augmentation. Ours holds the set in memory and changes whole
batches; the peer is a DataLoader that changes one image after another with MONAI's transforms,
without workers and with one worker a core. The batches are timed without the network too: where
the network takes most of the time, no way of making batches can gain much.

Networks: forward, loss, backward and a step of the optimiser on one batch; ours against a network
of another library that needs as many operations, within 10%. All are run with channels last and
without, and the better of the two counts, for the peer as for ours.

A ratio is the peer's time over ours in one round, the median over rounds: above one, ours is
faster.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np
import torch
from bench import between, interleaved, keep_freed_memory, peak_bytes, write
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from course_utils import experiments, ledger, losses, runtime, storage
from course_utils.attention import CBAM, AttentionGate
from course_utils.datasets import load
from course_utils.senet import SEResNet
from course_utils.tasks import bccd
from course_utils.training import as_float
from course_utils.unet import UNet
from course_utils.yolo import YOLO

RECORD = "bench_train.json"
MARKS = "<!-- train: written by `course bench train` -->\n", "<!-- end of train -->"
PIPELINES = ("first_model", "hippocampus")
Call = Callable[[], object]
Pair = tuple[nn.Module, str, nn.Module, Tensor, Callable[[Tensor], Tensor]]
"""Our network, the peer's name, the peer, a batch of images, the loss of what comes out."""


def train(seconds: float = 5) -> dict:
    """Record results/bench_train.json and its table; `seconds` go to each candidate at least."""
    storage.try_writing(ledger.folder())
    keep_freed_memory()
    pipelines, networks = [], []
    for name in PIPELINES:
        print("pipeline", name, flush=True)
        pipelines.append(pipeline(name, 3 * seconds))
    for name in NETWORKS:
        print("network", name, flush=True)
        networks.append(network(name, 4 * seconds))
    record = {
        "device": runtime.hardware(),
        "threads": torch.get_num_threads(),
        "precision": runtime.precision()[0],
        "versions": runtime.versions() | _peers(),
        "revision": runtime.revision(),
        "pipelines": pipelines,
        "networks": networks,
    }
    write(record, RECORD, readme)
    print(f"\n{markdown()}")
    return record


def _peers() -> dict[str, str]:
    import monai
    import timm

    return {"timm": timm.__version__, "monai": monai.__version__}


def autocast(device: torch.device) -> AbstractContextManager:
    """The number format in which `fit` trains here; fp16 needs a scaler and stays out of this."""
    half = runtime.precision(device)[0].startswith("bf16")
    return torch.autocast(device.type, torch.bfloat16, enabled=half)


# Pipelines --------------------------------------------------------------------------------------


def pipeline(name: str, seconds: float) -> dict:
    """Images per second through ours and through the peer with 0 workers and one a core."""
    experiment, device = experiments.get(name), runtime.device()
    x, y = experiment.training_images(load(experiment.dataset))
    batch = experiment.settings()["batch_size"]
    images = min(len(x) // batch, 12 if runtime.profile() != "smoke" else 2) * batch
    parts: dict[str, float] = {}
    calls: dict[str, Call] = {}
    alone: dict[str, Call] = {}
    for who, batches in {
        "ours": partial(own_batches, experiment.augment or _unchanged, x, y, batch, images, parts),
        **{
            f"MONAI, {workers} workers": partial(monai_batches, name, x, y, batch, images, workers)
            for workers in (0, torch.get_num_threads())
        },
    }.items():
        alone[who] = partial(_run_through, batches)
        model = experiment.model("attention", 0).to(device)
        if who == "ours":
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, unused-ignore]
        calls[who] = partial(
            epoch, model, experiment.loss(y), batches, parts if who == "ours" else {}
        )
    times = interleaved(calls, seconds, device)
    ours = times.pop("ours")
    whole = sum(parts.values())  # before the batches alone add to it
    if device.type != "cpu":
        parts.clear()  # a GPU works behind the calls: the clock around them tells nothing
    shares = {part: round(spent / whole, 3) for part, spent in parts.items()}
    peaks = {who: peak_bytes(call, device) for who, call in calls.items()}
    without = interleaved(alone, seconds, device)
    return {
        "experiment": name,
        "images": images,
        "ours": round(images / statistics.median(ours), 1),
        "peers": {who: round(images / statistics.median(t), 1) for who, t in times.items()},
        "ratios": {who: _ratio(ours, t) for who, t in times.items()},
        "batches_alone": {
            who: _ratio(without["ours"], t) for who, t in without.items() if who != "ours"
        },
        "parts": shares,
        "peak_bytes": peaks,  # what PyTorch holds in this process; workers have memory of their own
    }


def _ratio(ours: list[float], theirs: list[float]) -> list[float]:
    """Lower quartile, median and upper quartile of the peer's time over ours, round by round."""
    return statistics.quantiles([b / a for a, b in zip(ours, theirs, strict=True)], n=4)


def _run_through(batches: Callable[[], Iterator]) -> None:
    for _ in batches():
        pass


def epoch(
    model: nn.Module, loss: losses.Loss, batches: Callable[[], Iterator], parts: dict
) -> None:
    """Train on all batches; `parts` gathers the seconds of forward, backward and optimiser."""
    device = runtime.device()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    for xb, yb in batches():
        begin = time.perf_counter()
        with autocast(device):
            value = loss(model(xb), yb)
        forward = time.perf_counter()
        optimizer.zero_grad()
        value.backward()
        backward = time.perf_counter()
        optimizer.step()
        end = time.perf_counter()
        for part, spent in (
            ("forward", forward - begin),
            ("backward", backward - forward),
            ("optimiser", end - backward),
        ):
            parts[part] = parts.get(part, 0.0) + spent


def _unchanged(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return x, y


def own_batches(
    augment: Callable[..., Any], x: Tensor, y: Tensor, batch: int, images: int, parts: dict
) -> Iterator:
    """As `fit` does it: index a tensor, change the whole batch at once."""
    device = runtime.device()
    x, y = x.to(device), y.to(device)  # the whole set, as `fit` holds it
    for rows in torch.randperm(len(x))[:images].to(device).split(batch):
        begin = time.perf_counter()
        xb, yb = augment(as_float(x[rows]), y[rows])
        parts["batches"] = parts.get("batches", 0.0) + time.perf_counter() - begin
        yield xb, yb


def monai_batches(
    name: str, x: Tensor, y: Tensor, batch: int, images: int, workers: int
) -> Iterator:
    """A DataLoader over a list of cases, each changed by MONAI's transforms for one image."""
    from monai.data import DataLoader, Dataset, set_track_meta

    set_track_meta(False)  # the faster way: plain tensors
    rows = torch.randperm(len(x))[:images].tolist()
    cases = [{"x": x[i].numpy(), "y": y[i].numpy()} for i in rows]
    loader = DataLoader(
        Dataset(cases, TRANSFORMS[name]()), batch_size=batch, num_workers=workers, shuffle=True
    )
    device = runtime.device()
    for found in loader:
        yield found["x"].to(device), found["y"].to(device)


def _xray() -> Callable:
    """What `pneumonia.augment` does: rotation, shift, scale, side, exposure."""
    from monai import transforms as T

    rng = np.random.default_rng(0)
    return T.Compose(
        [
            T.ScaleIntensityRanged("x", 0, 255, 0, 1),
            T.RandAffined(
                "x", prob=1.0, rotate_range=np.pi / 18, translate_range=2.8, scale_range=0.1,
                padding_mode="border",
            ),
            T.RandFlipd("x", 0.5, spatial_axis=1),
            T.Lambdad("x", lambda image: image ** rng.uniform(0.4, 1.6)),  # MONAI's stretches, too
            T.ToTensord(("x", "y")),
        ]
    )  # fmt: skip


def _mri() -> Callable:
    """What `hippocampus.augment` does: pose and size of slice and mask, contrast, noise."""
    from monai import transforms as T

    return T.Compose(
        [
            T.Lambdad("x", lambda image: image.astype(np.float32)),
            T.Lambdad("y", lambda mask: mask[None]),
            T.RandAffined(
                ("x", "y"), prob=1.0, rotate_range=np.pi / 12, translate_range=(3.8, 5.1),
                scale_range=0.16, mode=("bilinear", "nearest"), padding_mode="border",
            ),
            T.RandScaleIntensityd("x", 0.2, prob=1.0),
            T.RandShiftIntensityd("x", 0.2, prob=1.0),
            T.RandGaussianNoised("x", 0.5, std=0.1),
            T.Lambdad("y", lambda mask: mask[0]),
            T.ToTensord(("x", "y")),
        ]
    )  # fmt: skip


TRANSFORMS: dict[str, Callable[[], Callable]] = {"first_model": _xray, "hippocampus": _mri}


# Networks ---------------------------------------------------------------------------------------


def _cross_entropy(y: Tensor, outputs: Tensor) -> Tensor:
    return F.cross_entropy(outputs.float(), y.to(outputs.device))


def unet_and_monai(width: int, channels: list[int]) -> Pair:
    """Attention U-Nets of five levels, gates on all skips, batch norm, three classes.

    At equal widths ours has 16% more operations than MONAI's (two convolutions after each skip
    instead of one), so one of the two needs other widths. oneDNN is fast on multiples of 16.
    """
    from monai.networks.nets import AttentionUnet

    ours = UNet(3, 3, width, 5, gate=partial(AttentionGate, norm=nn.BatchNorm2d))
    peer = AttentionUnet(2, 3, 3, channels, [2, 2, 2, 2])
    x, y = torch.rand(32, 3, 48, 64), torch.randint(3, (32, 48, 64))
    return ours, "MONAI AttentionUnet", peer, x, partial(_cross_entropy, y)


def senet_and_timm() -> Pair:
    """SE-ResNet-18 at 112 px."""
    import timm

    ours = SEResNet(3, 3, 64, (2, 2, 2, 2), instance_norm=False, small_images=False)
    peer = timm.create_model("seresnet18", in_chans=3, num_classes=3)
    x, y = torch.rand(32, 3, 112, 112), torch.randint(3, (32,))
    return ours, "timm seresnet18", peer, x, partial(_cross_entropy, y)


class _Torchvision(nn.Module):
    """A torchvision detector called like ours: images in, here the sum of its losses out."""

    def __init__(self, detector: nn.Module, targets: list[dict[str, Tensor]]):
        super().__init__()
        self.detector, self.targets = detector, targets

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.detector(list(x))
        targets = [{k: v.to(x.device) for k, v in t.items()} for t in self.targets]
        return torch.stack(list(self.detector(list(x), targets).values())).sum()


def yolo_and_torchvision() -> Pair:
    """Detectors of blood cells at 320 x 240 with 15 boxes an image."""
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    ours = YOLO(3, bccd.cell_anchors(320), 11, CBAM)
    corners = torch.rand(8, 15, 2) * torch.tensor([260.0, 180.0])
    boxes = torch.cat([corners, corners + 20 + 40 * torch.rand(8, 15, 2)], 2)
    kinds = torch.randint(3, (8, 15, 1))
    targets = [{"boxes": b, "labels": k[:, 0] + 1} for b, k in zip(boxes, kinds, strict=True)]
    peer = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)
    y, loss = torch.cat([kinds.float(), boxes], 2), bccd.yolo_mixed(torch.empty(0), 320)
    return (
        ours,
        "torchvision ssdlite320",
        _Torchvision(peer, targets),
        torch.rand(8, 3, 240, 320),
        lambda out: loss(out, y.to(out.device)) if out.ndim else out,
    )


NETWORKS: dict[str, Callable[[], Pair]] = {
    "UNet with AttentionGate": partial(unet_and_monai, 16, [16, 32, 64, 160, 256]),
    "UNet of width 15": partial(unet_and_monai, 15, [16, 32, 64, 128, 256]),
    "SEResNet": senet_and_timm,
    "YOLO with CBAM": yolo_and_torchvision,
}


def network(name: str, seconds: float) -> dict:
    """Seconds of a training step of ours and of the peer, each in its faster memory layout."""
    ours, who, peer, x, loss = NETWORKS[name]()
    device = runtime.device()
    counts = {"ours": operations(ours, x[:1]), who: operations(peer, x[:1])}
    calls, peaks = {}, {}
    for key, model in (("ours", ours), (who, peer)):
        model = model.to(device).train()
        for layout in (torch.contiguous_format, torch.channels_last):
            calls[key, layout] = _step(model, x.to(device), loss, layout)
        peaks[key] = peak_bytes(calls[key, torch.channels_last], device)
    times: Any = interleaved(calls, seconds, device)  # type: ignore[arg-type]
    best = {
        key: min((times[k] for k in times if k[0] == key), key=statistics.median)
        for key in ("ours", who)
    }
    return {
        "network": name,
        "peer": who,
        "shape": list(x.shape),
        "operations": counts,
        "seconds": {key: statistics.median(t) for key, t in best.items()},
        "ratio": _ratio(best["ours"], best[who]),
        "peak_bytes": peaks,
    }


def _step(model: nn.Module, x: Tensor, loss: Callable, layout: torch.memory_format) -> Call:
    x = x.contiguous(memory_format=layout)

    def run() -> None:
        # Converting a model that is in this layout already costs nothing to speak of.
        model.to(memory_format=layout)  # type: ignore[call-overload, unused-ignore]
        with autocast(x.device):
            value = loss(model(x))
        model.zero_grad(set_to_none=True)
        value.backward()
        with torch.no_grad():  # plain descent: the optimiser is not what is compared
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad, alpha=1e-6)

    return run


def operations(model: nn.Module, x: Tensor) -> int:
    """Multiplications and additions of a forward pass, as PyTorch counts them."""
    model.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    return counter.get_total_flops()


# The table --------------------------------------------------------------------------------------


def markdown() -> str:
    """The recorded tables and the machine, for results/README.md."""
    if not (path := ledger.folder() / RECORD).exists():
        return "Not recorded yet.\n"
    record = storage.read_json(path, "Measure again: course bench train")
    versions = ", ".join(map(" ".join, record["versions"].items()))
    lines = [
        f"{record['device']}; {record['precision']}; {versions}; revision {record['revision']}.",
        "",
        "| pipeline | images/s | peer, images/s | peer / ours | batches alone, peer / ours "
        "| where our time goes | peak, MB (peers) |",
        "|---" * 7 + "|",
    ]
    for row in record["pipelines"]:
        peers = ", ".join(f"{who} {speed:.0f}" for who, speed in row["peers"].items())
        ratios, alone = (
            ", ".join(f"{ratio[1]:.{digits}f}" for ratio in row[key].values())
            for key, digits in (("ratios", 2), ("batches_alone", 1))
        )
        parts = ", ".join(f"{part} {share:.0%}" for part, share in row["parts"].items())
        held, *others = ["?" if p is None else f"{p / 1e6:.0f}" for p in row["peak_bytes"].values()]
        lines.append(
            f"| {row['experiment']} | {row['ours']:.0f} | {peers} | {ratios} | {alone} | {parts} "
            f"| {held} ({', '.join(others)}) |"
        )
    lines += [
        "",
        "| network | peer | batch | operations / peer's | ms a step | peer / ours "
        "| peak, MB (peer) |",
        "|---" * 7 + "|",
    ]
    for row in record["networks"]:
        who = row["peer"]
        share = row["operations"]["ours"] / row["operations"][who]
        peak = ["?" if p is None else f"{p / 1e6:.0f}" for p in row["peak_bytes"].values()]
        lines.append(
            f"| {row['network']} | {who} | {'x'.join(map(str, row['shape']))} | {share:.2f} "
            f"| {1e3 * row['seconds']['ours']:.0f} | {row['ratio'][1]:.2f} "
            f"| {peak[0]} ({peak[1]}) |"
        )
    return "\n".join(lines) + "\n"


def readme(text: str) -> str:
    """results/README.md with the tables renewed between their two marks."""
    return between(text, MARKS, markdown())
