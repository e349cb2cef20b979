"""How fast are our attention modules beside those of well-known libraries?

`course bench attention` runs each mechanism and its peers in turn, so that what else the machine
does meets all alike. A ratio is the peer's time over ours in one round, the median over rounds:
above one, ours is faster. Times are in seconds, memory in bytes, all numbers fp32.
"""

import ctypes
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pkgutil import resolve_name
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils import attention as ours
from course_utils import ledger, runtime, storage

SIZES = ((64, 56, 56), (128, 28, 28), (256, 28, 28), (512, 14, 14))  # C, H, W
BATCH, R = 32, 16  # images; reduction
PAIRS_BATCH = 4  # of attention between places: 32 weight maps at 56x56 would fill 1.3 GB
REQUIRED = 0.95  # of the fastest peer's time over ours
FREE = "scaled_dot_product_attention"  # but not of this: written to be read, it holds all weights
RECORD = "bench_attention.json"
MARKS = "<!-- bench: written by `course bench attention` -->\n", "<!-- end of bench -->"

# Each is built for C channels; `resolve_name` imports a peer's library then, not before.
Build = Callable[[int], Callable[..., Tensor]]
SE = {
    "torchvision": lambda c: resolve_name("torchvision.ops:SqueezeExcitation")(c, c // R),
    "timm": lambda c: resolve_name("timm.layers:SEModule")(c, rd_channels=c // R),
    "MONAI": lambda c: resolve_name("monai.networks.blocks:ChannelSELayer")(2, c, R),
}
ECA = {"timm": lambda c: resolve_name("timm.layers:EcaModule")(c)}
CBAM = {"timm": lambda c: resolve_name("timm.layers.cbam:CbamModule")(c, 1 / R, mlp_bias=True)}
BLOCK = "monai.networks.nets.attentionunet:AttentionBlock"  # takes (g, x), here of equal shapes
GATE = {"MONAI": lambda c: resolve_name(BLOCK)(2, c // 2, c, c)}
PYTORCH = {"PyTorch": lambda c: F.scaled_dot_product_attention}


def _pairs(x: Tensor) -> tuple[Tensor, ...]:
    """Query, key and value, (4, 1, H W, C // 2) each, as SelfAttention2d lays them out."""
    return ours.SelfAttention2d(x.shape[1]).to(x.device).queries_keys_values(x[:PAIRS_BATCH])


class Mechanism(NamedTuple):
    """What is timed: ours and the peers, called with `inputs(x)`; `moves` as in `moved_bytes`."""

    ours: Build
    peers: Mapping[str, Build]
    moves: tuple[int, int, int]
    inputs: Callable[[Tensor], tuple[Tensor, ...]] = lambda x: (x,)


MECHANISMS = {
    "SqueezeExcitation": Mechanism(lambda c: ours.SqueezeExcitation(c, R), SE, (3, 0, 0)),
    "ECA": Mechanism(ours.ECA, ECA, (3, 0, 0)),
    "CBAM": Mechanism(lambda c: ours.CBAM(c, R, norm=nn.BatchNorm2d), CBAM, (8, 14, 0)),
    "AttentionGate": Mechanism(
        lambda c: ours.AttentionGate(c, c, norm=nn.BatchNorm2d),
        GATE,
        (10, 6, 0),
        lambda x: (x, x.flip(0)),  # the skip and a gating signal of its size
    ),
    FREE: Mechanism(lambda c: ours.scaled_dot_product_attention, PYTORCH, (2, 0, 6), _pairs),
    # one function on queries, keys and values as the block lays them out, and on contiguous ones
    "inside SelfAttention2d": Mechanism(PYTORCH["PyTorch"], PYTORCH, (2, 0, 0), _pairs),
}


def moved_bytes(name: str, n: int, c: int, places: int) -> int:
    """What a forward pass moves if each operator reads its inputs and writes its output, in fp32.

    It counts in maps of C channels, maps of one, and weights of all pairs of places; the network's
    weights and vectors of C numbers are left out.
    - SqueezeExcitation, ECA: 3 of C: read by the mean; read and written by the product.
    - CBAM: 8 of C: in each half read by mean and maximum, read and written by the product. 14 of
      one: mean, maximum, joined (4), convolved (3), norm (2), sigmoid (2), read by the product.
    - AttentionGate: 4 of C: x, g read; x read and written by the product. 12 of C / 2: convolved
      (2), norms (4), sum (3), ReLU (2), read. 6 of one: psi, norm (2), sigmoid (2), read.
    - dot product: 4 of C / 2: query, key, value, output. 6 of pairs: product, scaled (2), softmax
      (2), read; none inside SelfAttention2d, whose function is fused.
    """
    channels, ones, pairs = MECHANISMS[name].moves
    return 4 * n * places * (channels * c + ones + pairs * places)


def attention(seconds: float = 5) -> dict:
    """Record results/bench_attention.json and its table; `seconds` go to each of 48 timings."""
    storage.try_writing(ledger.folder())
    keep_freed_memory()
    device, rows, missing = runtime.device(), [], set[str]()
    copy = copy_speed(device)
    for name, size in itertools.product(MECHANISMS, SIZES):
        print(name, size, flush=True)
        rows.append(_row(name, torch.randn(BATCH, *size, device=device), seconds, copy, missing))
    record = {
        "device": runtime.hardware(),
        "threads": torch.get_num_threads(),
        "copy_bytes_per_second": round(copy),
        "missing": sorted(missing),
        "versions": runtime.versions()
        | {name: m.__version__ for name in ("timm", "monai") if (m := sys.modules.get(name))},
        "revision": runtime.revision(),
        "rows": rows,
    }
    write(record, RECORD, readme)
    print(f"\n{markdown()}\nBelow {REQUIRED} of the fastest peer: {slower(rows) or 'none'}.")
    return record


def _row(name: str, x: Tensor, seconds: float, copy: float, missing: set[str]) -> dict:
    mechanism, channels = MECHANISMS[name], x.shape[1]
    inputs = mechanism.inputs(x)
    entries = {"ours": (mechanism.ours(channels), inputs)}
    for peer, build in mechanism.peers.items():
        try:
            entries[peer] = build(channels), tuple(tensor.contiguous() for tensor in inputs)
        except ImportError:
            missing.add(peer)
    row: dict = {"mechanism": name, "size": [len(inputs[0]), *x.shape[1:]]}
    for direction in ("forward", "both"):
        calls = {who: step(*entry, direction == "both") for who, entry in entries.items()}
        times = interleaved(calls, seconds, x.device)
        first = times.pop("ours")
        row[direction] = {"rounds": len(first), "seconds": statistics.median(first), "ratios": {}}
        for peer, theirs in times.items():  # lower quartile, median, upper quartile
            ratios = [b / a for a, b in zip(first, theirs, strict=True)]
            row[direction]["ratios"][peer] = statistics.quantiles(ratios, method="inclusive")
    row["peak_bytes"] = {who: peak_bytes(call, x.device) for who, call in calls.items()}
    row["forward_bytes"] = moved_bytes(name, len(inputs[0]), channels, x[0, 0].numel())
    return row | {"share_of_copy": row["forward_bytes"] / row["forward"]["seconds"] / copy}


def step(
    call: Callable[..., Tensor], inputs: tuple[Tensor, ...], backward: bool
) -> Callable[[], None]:
    """Forward as in prediction, or forward and backward to inputs and parameters as in training."""
    module = (call if isinstance(call, nn.Module) else nn.Module()).to(inputs[0].device)
    module.train(backward)  # in eval mode norms use their running statistics
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    wanted = [*leaves, *module.parameters()]
    gradient = torch.randn_like(call(*leaves))

    def run() -> None:
        with torch.set_grad_enabled(backward):
            output = call(*leaves)
        if backward:
            torch.autograd.grad(output, wanted, gradient)

    return run


def interleaved(calls: dict[str, Callable], seconds: float, device: torch.device) -> dict:
    """Seconds of each call, once a round, until `seconds` are over; after two rounds to warm up."""
    times, end = {name: list[float]() for name in calls}, time.perf_counter() + seconds
    order = list(calls)
    while len(times[order[0]]) < 7 or time.perf_counter() < end:
        for name in order:
            start = time.perf_counter()
            calls[name]()
            if device.type != "cpu":
                torch.accelerator.synchronize()  # a GPU goes on behind the call
            times[name].append(time.perf_counter() - start)
        order = order[1:] + order[:1]  # another call begins each round
    return {name: found[2:] for name, found in times.items()}


def keep_freed_memory() -> None:
    """Let this process keep what it frees (Linux with glibc), as PyTorch does on a GPU.

    Otherwise glibc gives large blocks back or not, depending on what lies beside them, and fresh
    pages can take as long as the module does: times of one module then differ by a factor of 2.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: never shrink the heap
        mallopt(-4, 0)  # M_MMAP_MAX: take every block from the heap


def copy_speed(device: torch.device, floats: int = 2**26) -> float:
    """Bytes read and written in a second by `copy_` of 256 MB, far more than a cache holds."""
    source, target = torch.ones(2, floats, device=device)
    times = interleaved({"copy": lambda: target.copy_(source)}, 1, device)
    return 2 * 4 * floats / statistics.median(times["copy"])


def peak_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """Most bytes that PyTorch's allocator held during a call beyond those before; None: unknown."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        call()
        return torch.cuda.max_memory_allocated() - torch.cuda.memory_allocated()
    if device.type != "cpu":
        return None
    with torch.profiler.profile(profile_memory=True) as profile:
        call()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(itertools.accumulate(changes), default=0)


def slower(rows: list[dict]) -> list[str]:
    """What takes longer than `REQUIRED` allows, in words."""
    return [
        f"{row['mechanism']} {row['size']} {direction}: {peer} {ratio[1]:.2f}"
        for row in rows
        for direction in ("forward", "both")
        for peer, ratio in row[direction]["ratios"].items()
        if ratio[1] < REQUIRED and row["mechanism"] != FREE
    ]


def markdown() -> str:
    """The recorded table and the machine, for results/README.md."""
    if not (path := ledger.folder() / RECORD).exists():
        return "Not recorded yet.\n"
    record = storage.read_json(path, "Measure again: course bench attention")
    versions = ", ".join(map(" ".join, record["versions"].items()))
    lines = [
        f"{record['device']}; fp32; {versions}; revision {record['revision']}. "
        f"Copying moves {record['copy_bytes_per_second'] / 1e9:.1f} GB/s.",
        *(f"{peer} was not installed and is left out." for peer in record["missing"]),
        "",
        "| mechanism | N x C x H x W | forward, ms | peer / ours | forward + backward, ms "
        "| peer / ours | peak, MB (peers) | forward moves, MB | share of copying |",
        "|---" * 9 + "|",
    ]
    for row in record["rows"]:
        cells = [row["mechanism"], "x".join(map(str, row["size"]))]
        for part in (row["forward"], row["both"]):
            ratios = [f"{peer} {ratio[1]:.2f}" for peer, ratio in part["ratios"].items()]
            cells += [f"{1e3 * part['seconds']:.1f}", ", ".join(ratios) or "no peer"]
        peak, *peers = ["?" if p is None else f"{p / 1e6:.0f}" for p in row["peak_bytes"].values()]
        cells += [f"{peak} ({', '.join(peers)})", f"{row['forward_bytes'] / 1e6:.0f}"]
        lines.append("| " + " | ".join([*cells, f"{row['share_of_copy']:.2f}"]) + " |")
    return "\n".join(lines) + "\n"


def readme(text: str) -> str:
    """results/README.md with the table renewed between its two marks."""
    return between(text, MARKS, markdown())


def between(text: str, marks: tuple[str, str], table: str) -> str:
    """A page with a new table between its two marks."""
    before, rest = text.split(marks[0])
    return before + marks[0] + table + marks[1] + rest.split(marks[1])[1]


def write(record: dict, name: str, renewed: Callable[[str], str]) -> None:
    """Store a record in `results/` and renew its table on the page there, if there is one."""
    path = ledger.folder() / name
    storage.write(path, json.dumps(record, indent=1, allow_nan=False) + "\n")
    if (page := path.with_name("README.md")).exists():
        storage.write(page, renewed(page.read_text(encoding="utf-8")))
