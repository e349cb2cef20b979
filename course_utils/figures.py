"""Every plot that the course draws twice. Call `style()` once at the top of a notebook."""

from collections.abc import Callable, Collection, Iterable, Sequence
from importlib.util import find_spec
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from course_utils import metrics, runtime


def style() -> None:
    """Fonts, sizes and the colour-blind safe palette of the course.

    The background is opaque white, so that figures can be read in JupyterLab's dark theme too.
    """
    import seaborn as sns

    white = {"figure.facecolor": "white", "savefig.facecolor": "white"}
    layout = {"figure.dpi": 100, "figure.constrained_layout.use": True}
    sns.set_theme("notebook", "whitegrid", "colorblind", rc=white | layout)


def pictures(
    images: Tensor, titles: Sequence[str] = (), title: str = "", columns: int = 6, size: float = 1.7
) -> Figure:
    """A grid of images.

    Args:
        images: (N, C, H, W) or (N, H, W); one channel is drawn grey, three in colour. uint8, or
            floats: grey floats are stretched from their lowest to their highest value.
        titles: a short text above each image.
        title: above the whole; begins with the data's label.
        columns: images in a row.
        size: width of one image in inches.

    Returns:
        The matplotlib figure.

    Raises:
        ValueError: there are more titles than images, or a single text.
    """
    high = size * images[0].shape[-2] / images[0].shape[-1] + (0.3 if titles else 0.05)
    figure, axes = _grid(len(images), titles, title, columns, size, high)
    for axis, image in zip(axes, images, strict=True):
        if image.ndim == 3:
            image = image[0] if len(image) == 1 else image.permute(1, 2, 0)
        top = 255 if image.max() > 1 else 1  # of a mask 1 is white
        scale: dict[str, Any] = {"vmin": 0, "vmax": top} if image.dtype == torch.uint8 else {}
        axis.imshow(image.cpu().numpy(), cmap="gray", interpolation="nearest", **scale)
    return figure


def _grid(
    count: int, titles: Sequence[str], title: str, columns: int, width: float, height: float
) -> tuple[Figure, list[Axes]]:
    """So many axes without ticks, in rows of `columns`, each so many inches wide and high."""
    if isinstance(titles, str) or len(titles) > count:
        raise ValueError(f"Of {count} pictures there are {len(titles)} titles. Expected one each.")
    columns = min(columns, count)
    rows = -(-count // columns)
    figsize = columns * width, rows * height + 0.3
    figure, axes = plt.subplots(rows, columns, figsize=figsize, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, text in zip(axes.flat, titles, strict=False):
        axis.set_title(text, fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figure, list(axes.flat[:count])


OUTLINES: tuple[dict[str, Any], ...] = (
    {"color": "C9", "linestyle": "-"},
    {"color": "C1", "linestyle": "--"},
    {"color": "C8", "linestyle": ":"},
)
"""The line of the first, second and third mask or class, told apart without colours too."""


def overlay(
    images: Tensor, masks: dict[str, Tensor], titles: Sequence[str] = (), **grid: Any
) -> Figure:
    """A grid of images with masks drawn as outlines, so that what lies inside stays in sight.

    Args:
        images: as in `pictures`; a list of (C, H, W) or (H, W) where they differ in size.
        masks: up to three, by the name that the legend gives them: (N, H, W), bool or 0 and 1; a
            list of (H, W) where they differ in size. An empty mask draws nothing.
        titles: a short text above each image.
        grid: title, columns and size, as in `pictures`.

    Returns:
        The matplotlib figure.

    Raises:
        ValueError: as `pictures`, a mask has another size than its image, or other values, or there
            are more than three.
    """
    figure = pictures(images, titles, **grid)
    axes = figure.axes[: len(images)]  # without those that fill the last row
    for drawn, line in zip(masks.values(), OUTLINES, strict=False):
        for axis, image, mask in zip(axes, images, drawn, strict=True):
            if image.shape[-2:] != mask.shape:
                raise ValueError("A mask has another size than its image. Expected (H, W) of both.")
            outline(axis, mask, **line)
    figure.legend(handles=_handles(masks), loc="outside lower center", ncols=3, fontsize=9)
    return figure


def outline(axis: Axes, mask: Tensor, color: str = "C1", linestyle: str = "-") -> None:
    """The border of a mask (H, W), with a dark rim; nothing where the mask has no border."""
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError("The mask holds values other than 0 and 1. Threshold it first.")
    if 0 < mask.float().mean() < 1:
        contour = axis.contour(mask.cpu().float().numpy(), [0.5], colors=color)
        contour.set(linestyle=linestyle, **_edged())


def _handles(names: Collection[str]) -> list[Any]:
    """What a legend shows of the first, second and third name."""
    if len(names) > len(OUTLINES):
        raise ValueError(f"There are {len(names)} names. Expected three at most, to tell apart.")
    pairs = zip(names, OUTLINES, strict=False)
    return [Line2D([], [], label=name, **line, **_edged()) for name, line in pairs]


def boxes(
    image: Tensor, rows: Tensor, classes: Sequence[str], title: str = "", axis: Axes | None = None
) -> Axes:
    """An image with boxes, each class in a colour and a line of its own.

    Args:
        image: (3, H, W), uint8.
        rows: (n, 5), (class, x1, y1, x2, y2) in pixels; rows of class -1 are left out.
        classes: names of the up to three classes, for the legend.
        title: begins with the data's label.
        axis: of matplotlib; None draws a new figure.

    Returns:
        The axis.

    Raises:
        ValueError: a class without a name, or more than three names.
    """
    metrics.expect_classes(rows[:, 0], len(classes))
    axis = axis or plt.subplots(figsize=(6.4, 5.2))[1]
    axis.imshow(image.permute(1, 2, 0).cpu().numpy())
    for kind, x1, y1, x2, y2 in rows[rows[:, 0] >= 0].tolist():
        line = OUTLINES[int(kind)] | _edged()
        axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **line))
    where: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0)}
    axis.legend(handles=_handles(classes), ncols=3, fontsize=9, **where)
    axis.set_title(title, fontsize=11)
    axis.axis("off")
    return axis


def _edged() -> dict[str, Any]:
    """A line with a dark rim, which can be seen on bright and dark ground alike."""
    return {"linewidth": 1.8, "path_effects": [withStroke(linewidth=3.2, foreground="black")]}


def roc(scores: Tensor, labels: Tensor, name: str, axis: Axes, **line: Any) -> Axes:
    """The ROC curve: sensitivity against the share of false alarms, for every threshold.

    Args:
        scores, labels: (N,); labels are 0 and 1.
        name: of the curve, in the legend, before its area.
        axis: of matplotlib; further curves may follow on it.
        line: for matplotlib, for instance linestyle.

    Returns:
        The axis.
    """
    from sklearn.metrics import roc_curve

    if not axis.lines:
        axis.plot([0, 1], [0, 1], color="grey", linestyle=":", label="guessing, 0.500")
    false_alarms, found, _ = roc_curve(labels.numpy(), scores.numpy())
    axis.plot(false_alarms, found, label=f"{name}, {metrics.auroc(scores, labels):.3f}", **line)
    axis.set(xlabel="false alarms (1 - specificity)", ylabel="cases found (sensitivity)")
    axis.set_aspect("equal")
    axis.legend(loc="lower right", fontsize=8, title="AUROC", title_fontsize=8)
    return axis


def reliability(probabilities: Tensor, labels: Tensor, name: str, axis: Axes, **line: Any) -> Axes:
    """Said against found: the share of class 1 among images that were given a probability.

    Args:
        probabilities, labels: (N,); labels are 0 and 1.
        name: of the curve, in the legend, before its expected calibration error. It has a point
            for each bin of `metrics.reliability`, whose area grows with its number of images.
        axis, line: as in `roc`.

    Returns:
        The axis.
    """
    if not axis.lines:
        axis.plot([0, 1], [0, 1], color="grey", linestyle=":", label="calibrated")
    rows = metrics.reliability(probabilities, labels)
    error = metrics.calibration_error(probabilities, labels)
    (drawn,) = axis.plot(rows["said"], rows["found"], label=f"{name}, ECE {error:.3f}", **line)
    sizes = 15 + 500 * rows["images"] / rows["images"].sum()
    axis.scatter(rows["said"], rows["found"], sizes, color=drawn.get_color(), alpha=0.6)
    axis.set(xlabel="probability that was said", ylabel="share that was found")
    axis.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05), aspect="equal")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), fontsize=8)
    _mark_smoke(axis)
    return axis


def history(table: pd.DataFrame, score: str, *, title: str = "") -> Figure:
    """Training and validation loss, and one validation score, over the epochs.

    Args:
        table: `Fit.history`; one without a finished epoch gives empty plots that say so.
        score: the column to draw on the right.
        title: begins with the data's label.

    Returns:
        The matplotlib figure.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8))
    figure.suptitle(title, fontsize=11)
    if len(table) == 0:
        for axis in (left, right):
            axis.text(0.5, 0.5, "no epoch was finished", ha="center", transform=axis.transAxes)
        return figure
    left.plot(table["epoch"], table["loss"], marker="o", label="training")
    left.plot(table["epoch"], table["val_loss"], marker="s", label="validation")
    left.set(xlabel="epoch", ylabel="loss", ylim=(0, None))
    left.legend(fontsize=8)
    right.plot(table["epoch"], table[score], marker="s", color="C1")
    right.set(xlabel="epoch", ylabel=f"validation {'AUROC' if score == 'auroc' else score}")
    for axis in (left, right):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.set_xlim(table["epoch"].min() - 0.5, table["epoch"].max() + 0.5)
    _mark_smoke(right)
    return figure


def live_history(score: str, *, title: str = "") -> Callable[[list[dict]], None]:
    """`history`, drawn anew after each epoch: `fit(..., on_epoch=live_history("auroc"))`.

    Where nobody watches (stored notebooks, tests, a terminal) nothing is drawn.

    Args:
        score, title: as in `history`.

    Returns:
        What `fit` calls with the rows of its history.
    """
    shown: list[Any] = []  # the place in the notebook, once there is one

    def draw(rows: list[dict]) -> None:
        if runtime.quiet() or not runtime.in_notebook():
            return
        from IPython.display import display

        figure = history(pd.DataFrame(rows), score, title=title)
        if shown:
            shown[0].update(figure)
        else:
            shown.append(display(figure, display_id=True))
        plt.close(figure)  # else the notebook would show it once more below the cell

    return draw


def beside_published(
    table: pd.DataFrame, metric: str, ours: dict[str, float], *, axis: Axes | None = None
) -> Axes:
    """Published figures as grey points and ours as coloured ones, best at the top.

    Args:
        table: `ledger.published(...)`.
        metric: its column.
        ours: name to figure.
        axis: of matplotlib; None draws a new figure.

    Returns:
        The axis.
    """
    axis = axis or plt.subplots(figsize=(6, 3.2))[1]
    known = table.dropna(subset=metric)
    rows = [(*row, False) for row in zip(known["system"], known[metric], strict=True)]
    rows = sorted(rows + [(*row, True) for row in ours.items()], key=lambda row: row[1])
    for height, (_, value, is_ours) in enumerate(rows):
        axis.plot(value, height, marker="D" if is_ours else "o", color="C3" if is_ours else "grey")
        axis.annotate(f"{value:.3f}", (value, height), (7, -3), textcoords="offset points", size=8)
    axis.set_yticks(range(len(rows)), [name for name, _, _ in rows], fontsize=9)
    axis.margins(x=0.25)
    axis.set(xlabel=f"test {'AUROC' if metric == 'auroc' else metric}")
    axis.grid(axis="y", visible=False)
    _mark_smoke(axis)
    return axis


def _mark_smoke(axis: Axes) -> None:
    """Says above an axis that its numbers come from the smoke profile, and so mean nothing."""
    if runtime.profile() == "smoke":
        axis.set_title("smoke run", loc="right", fontsize=8, color="grey")


def numbers(
    grids: Sequence[Tensor],
    titles: Sequence[str] = (),
    *,
    title: str = "",
    highest: float | None = None,
    columns: int = 4,
    size: float = 2.3,
) -> Figure:
    """Small grids as coloured squares with their numbers written in.

    Args:
        grids: each (H, W); whole numbers are written without decimals, others with two.
        titles: a short text above each grid.
        title: above the whole.
        highest: the value of the brightest colour; None for the largest of each grid. 0 and what
            lies below it is darkest.
        columns: grids in a row.
        size: width of one grid in inches.

    Returns:
        The matplotlib figure.
    """
    import seaborn as sns

    figure, axes = _grid(len(grids), titles, title, columns, size, size + 0.2)
    look = {"cmap": "viridis", "cbar": False, "square": True, "annot_kws": {"fontsize": 9}}
    for axis, grid in zip(axes, grids, strict=True):
        grid = grid.detach().cpu().float()
        top = highest or grid.max().item() or 1.0
        decimals = ".0f" if bool((grid == grid.round()).all()) else ".2f"
        sns.heatmap(grid.numpy(), vmin=0, vmax=top, annot=True, fmt=decimals, ax=axis, **look)
    return figure


def slider(draw: Callable[..., object], **choices: tuple[Iterable[Any], Any]) -> None:
    """A slider for each argument of a function that draws; moving one draws anew.

    Where nobody watches (stored notebooks, tests), or without ipywidgets (7 or 8), it draws once
    and shows no widget.

    Args:
        draw: called with one value for each name; draws a figure and returns nothing.
        choices: for each argument of `draw` its values, in order, and the one to start with.
    """
    if runtime.quiet() or not find_spec("ipywidgets"):
        draw(**{name: start for name, (_, start) in choices.items()})
        return
    import ipywidgets

    sliders = {
        name: ipywidgets.SelectionSlider(options=list(values), value=start, continuous_update=False)
        for name, (values, start) in choices.items()
    }
    ipywidgets.interact(draw, **sliders)
