"""Draws average_precision.svg: the ranked list of chapter 08, precision, recall, the area."""

import numpy as np
import torch
from looks import FEATURES, FLOW, INK, LOW, SMALL, TRUTH, Drawing, mix
from pictures import blur
from torchvision import ops

objects = torch.tensor([[10.0, 10, 50, 50], [90, 20, 120, 60], [60, 70, 100, 110]])
guesses = torch.tensor(  # the list of the chapter, surest first
    [[12.0, 12, 52, 52], [0, 80, 30, 110], [9, 10, 50, 48], [88, 20, 118, 62], [66, 72, 106, 112]]
)
overlap = ops.box_iou(guesses, objects)  # (5, 3)
free, hits, taken = torch.ones(3), [], []
for iou in overlap:
    taken.append(bool(free[iou.argmax()] == 0))  # by a surer box
    hits.append(bool((iou * free).max() >= 0.5))
    free[iou.argmax()] *= not hits[-1]
hits = np.array(hits)
precision = hits.cumsum() / np.arange(1, 6)
recall = hits.cumsum() / 3
best = np.maximum.accumulate(precision[::-1])[::-1]  # at this rank or any later one
area = best[hits].sum() / 3

# the scene: a red cell for each object, with a margin for the cuts
MARGIN = 40
y, x = np.mgrid[-MARGIN : 120 + MARGIN, -MARGIN : 140 + MARGIN] + 0.5
image = 0.95 + 0.02 * blur(np.random.default_rng(2).normal(size=x.shape), 1)
for x1, y1, x2, y2 in objects.tolist():
    radius = np.hypot((2 * x - x1 - x2) / (x2 - x1), (2 * y - y1 - y2) / (y2 - y1))
    image -= (0.28 - 0.1 * np.exp(-((radius / 0.5) ** 2))) / (1 + np.exp((radius - 1) * 20))
image = np.clip(image, 0, 1)

d = Drawing(
    400,
    "Average precision of a ranked list",
    "On the left five detections, surest first: hit, miss, miss, hit, hit, for three objects. "
    "Beside them the precision so far, 1.00, 0.50, 0.33, 0.50, 0.60, and the recall so far, "
    "0.33, 0.33, 0.33, 0.67, 1.00. On the right precision over recall, a line with teeth, and "
    "under it three rectangles, one for each hit, as high as the best precision from there on: "
    "1.00, 0.60 and 0.60. Their area, the average precision, is 0.73.",
)
LIST, PITCH, ONE = 112, 62, 0.9  # the first row, from row to row, px of a pixel
CUT = 70, 54  # pixels
PALE = mix(LOW[TRUTH], TRUTH, 0.5)  # an object that is taken already
for i, box in enumerate(guesses.tolist()):
    y, left = LIST + PITCH * i, 46
    top = y - CUT[1] * ONE / 2
    x0, y0 = int((box[0] + box[2] - CUT[0]) / 2), int((box[1] + box[3] - CUT[1]) / 2)
    part = image[y0 + MARGIN : y0 + MARGIN + CUT[1], x0 + MARGIN : x0 + MARGIN + CUT[0]]
    d.text(24, y, f"{i + 1}", anchor="start", bold=True)
    d.picture(left, top, CUT[0] * ONE, CUT[1] * ONE, part, steps=10)
    truth = objects[overlap[i] > 0].tolist()
    for (x1, y1, x2, y2), color in [*((o, PALE if taken[i] else TRUTH) for o in truth), (box, INK)]:
        corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
        corners = [(left + (a - x0) * ONE, top + (b - y0) * ONE) for a, b in corners]
        d.area(corners, "none", color, FLOW)
    d.text(122, y, "hit" if hits[i] else "miss", anchor="start", color=TRUTH if hits[i] else INK)
    d.text(226, y, f"{precision[i]:.2f}", color=FEATURES)
    d.text(326, y, f"{recall[i]:.2f}", color=FEATURES)

# precision over recall, and under it a rectangle for each hit
LEFT, BASE, WIDE, HIGH = 416, 360, 252, 240


def at(r, p):
    return LEFT + WIDE * r, BASE - HIGH * p


for k, top in enumerate(best[hits]):
    corners = [at(k / 3, 0), at(k / 3, top), at((k + 1) / 3, top), at((k + 1) / 3, 0)]
    d.area(corners, LOW[FEATURES], FEATURES)
    d.text(at((k + 0.5) / 3, 0)[0], BASE - 24, f"{top:.2f}", color=FEATURES)
d.line([at(r, p) for r, p in zip(recall, precision)], INK, FLOW)
for hit, r, p in zip(hits, recall, precision):
    d.dot(*at(r, p), 5, TRUTH if hit else INK)
for value in (0, 1):
    d.text(LEFT - 10, at(0, value)[1], f"{value}", SMALL, FEATURES)
    d.text(at(value, 0)[0], BASE + 18, f"{value}", SMALL, FEATURES)
d.text(LEFT + WIDE / 2, BASE + 20, "recall", SMALL)
d.row(34, (
    (79, "list", "surest first", INK),
    (220, "precision", "hits / rank", INK),
    (326, "recall", "hits / 3", INK),
    (LEFT + WIDE / 2, f"area {area:.2f}", "best precision from here on", INK),
), head=True)
d.save("average_precision.svg")
