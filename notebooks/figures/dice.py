"""Draws dice.svg: Dice and IoU of two drawn outlines, counted."""

import numpy as np
from looks import CARD, FEATURES, FLOW, INK, LOW, SMALL, TRUTH, Drawing, mix

CELLS, W = 14, 280
y, x = (np.mgrid[0:CELLS, 0:CELLS] + 0.5) / CELLS


def blob(cx, cy, r, turn):
    angle = np.arctan2(y - cy, x - cx)
    return np.hypot(x - cx, y - cy) < r * (1 + 0.09 * np.cos(2 * angle + turn))


prediction, truth = blob(0.44, 0.46, 0.34, 0.6), blob(0.56, 0.55, 0.33, 2.4)
overlap = int((prediction & truth).sum())
a, b = int(prediction.sum()), int(truth.sum())
union = int((prediction | truth).sum())
dice, iou = 2 * overlap / (a + b), overlap / union

d = Drawing(
    414,
    "Dice and IoU",
    f"On the left a grid of {CELLS} by {CELLS} pixels with two shapes: a prediction of {a} pixels, "
    f"slate, and the truth of {b} pixels, pale blue. Their overlap of {overlap} pixels is dark "
    f"blue. On the right bars in one unit. Dice: twice the overlap, {2 * overlap}, over prediction "
    f"and truth end to end, {a + b}, is {dice:.2f}. IoU: the overlap once, {overlap}, over the "
    f"union, {union}, is {iou:.2f}.",
)
LEFT, TOP, BAR = 24, 67, 352
UNIT = (632 - BAR) / (a + b)  # px of a pixel
HALF = mix(LOW[TRUTH], TRUTH, 0.35)  # the truth alone
cell = W / CELLS

d.box(LEFT, TOP, W, W, LOW[FEATURES], INK)
for where, color in (
    (prediction & ~truth, FEATURES),
    (truth & ~prediction, HALF),
    (prediction & truth, TRUTH),
):
    d.cells(where.astype(float), (cell, 0, 0, cell, LEFT, TOP + cell / 2), LOW[FEATURES], color, 2)
for i in range(1, CELLS):
    d.line([(LEFT + cell * i, TOP), (LEFT + cell * i, TOP + W)], LOW[FEATURES])
    d.line([(LEFT, TOP + cell * i), (LEFT + W, TOP + cell * i)], LOW[FEATURES])
d.box(LEFT, TOP, W, W, "none", INK)
for shape, color in ((truth, TRUTH), (prediction, INK)):  # outlines, from cells that differ
    path = ""
    for i, j in np.argwhere(shape[:, 1:] != shape[:, :-1]):
        path += f"M{LEFT + cell * (j + 1):.5g} {TOP + cell * i:.5g}v{cell:.5g}"
    for i, j in np.argwhere(shape[1:] != shape[:-1]):
        path += f"M{LEFT + cell * j:.5g} {TOP + cell * (i + 1):.5g}h{cell:.5g}"
    d.add("path", d=path, stroke=color, stroke_width=FLOW, stroke_linecap="square")
d.text(LEFT, TOP - 23, "prediction", anchor="start")
d.text(LEFT + W, TOP - 23, "truth", color=TRUTH, anchor="end")
d.text(LEFT + W / 2, TOP + W + 24, "overlap", color=TRUTH)


def bar(y, *pieces):
    """Counts end to end: (count, colour) each."""
    start = BAR
    for count, color in pieces:
        d.box(start, y - 14, UNIT * count, 28, color)
        d.line([(start, y - 14), (start, y + 14)], CARD, FLOW)
        start += UNIT * count
    d.text(start + 8, y, str(sum(n for n, _ in pieces)), SMALL, anchor="start")


for top, name, score, above, below in (
    (84, "Dice", dice, [(overlap, TRUTH)] * 2,
     [(a - overlap, FEATURES), (overlap, TRUTH), (overlap, TRUTH), (b - overlap, HALF)]),
    (238, "IoU", iou, [(overlap, TRUTH)],
     [(a - overlap, FEATURES), (overlap, TRUTH), (b - overlap, HALF)]),
):
    d.text(BAR, top, name, 22, anchor="start", bold=True)
    d.text(676, top, f"{score:.2f}", 22, anchor="end", bold=True)
    bar(top + 42, *above)
    d.line([(BAR, top + 66), (676, top + 66)], INK)
    bar(top + 90, *below)
d.save("dice.svg")
