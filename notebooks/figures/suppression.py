"""Draws suppression.svg: non-maximum suppression of the five boxes of chapter 08, step by step."""

import numpy as np
import torch
from looks import FEATURES, FLOW, INK, LINE, SMALL, THIN, Drawing
from pictures import blur
from torchvision import ops

found = torch.tensor(
    [[10.0, 10, 50, 50], [14, 12, 54, 52], [28, 12, 68, 52], [90, 20, 120, 60], [92, 20, 122, 60]]
)
sure = torch.tensor([0.8, 0.9, 0.6, 0.5, 0.7])
LIMIT = 0.5
iou = ops.box_iou(found, found)
taken = ops.nms(found, sure, LIMIT).tolist()
assert taken == [1, 4, 2]

# two red cells that overlap, and a third one
y, x = np.mgrid[0:74, 0:134] + 0.5
noise = np.random.default_rng(2).normal(size=x.shape)
image = 0.95 + 0.02 * blur(noise, 1)
for cx, cy, wide, high in ((34, 32, 41, 40), (49, 32, 39, 41), (107, 40, 31, 40)):
    radius = np.hypot((x - cx) / wide, (y - cy) / high) * 2
    image -= (0.28 - 0.06 * np.exp(-((radius / 0.5) ** 2))) / (1 + np.exp((radius - 1) * 20))

d = Drawing(
    480,
    "Non-maximum suppression in four frames",
    "Four frames of the same three cells. First: five boxes, three on two cells that overlap, "
    "with scores 0.8, 0.9 and 0.6, two on a third cell with 0.5 and 0.7. Second: the box with "
    "0.9 is taken; that of 0.8 overlaps it with an IoU of 0.75 and is dropped, that of 0.6 with "
    "0.48 stays. Third: 0.7 is taken, and 0.5 is dropped, its IoU is 0.88. Fourth: three boxes "
    "are left.",
)
ONE = 2.34  # px of a pixel
FRAMES = (
    (24, 58, "five boxes", "scores"),
    (362, 58, "take 0.9", f"drop IoU > {LIMIT}"),
    (24, 282, "take 0.7", f"drop IoU > {LIMIT}"),
    (362, 282, "three stay", "scores"),
)


def label(left, top, i, words, color):
    """A number at its box: above, to the left or right; that of box 1 below."""
    x1, y1, x2, y2 = (start + v * ONE for start, v in zip((left, top) * 2, found[i].tolist()))
    x, anchor = (x1, "start") if i in (0, 1, 3) else (x2, "end")
    d.text(x, y2 + 13 if i == 1 else y1 - 12, words, SMALL, color, anchor)


def outline(left, top, i, color, width):
    x1, y1, x2, y2 = (start + v * ONE for start, v in zip((left, top) * 2, found[i].tolist()))
    d.area([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], "none", color, width)


left_over, done = {0, 1, 2, 3, 4}, []
for step, (left, top, name, what) in enumerate(FRAMES):
    d.text(left, top - 20, name, anchor="start", bold=True)
    d.text(left + 134 * ONE, top - 20, what, SMALL, FEATURES, "end")
    d.picture(left, top, 134 * ONE, 74 * ONE, np.clip(image, 0, 1), steps=12)
    doubles = set()
    if step in (1, 2):
        done.append(taken[step - 1])
        left_over -= {done[-1]}
        doubles = {i for i in left_over if iou[done[-1], i] > LIMIT}
        for i in left_over:
            if iou[done[-1], i] > 0:
                label(left, top, i, f"{iou[done[-1], i]:.2f}", FEATURES)
    if step == 3:
        done, left_over = taken, set()
    for i in doubles:
        outline(left, top, i, LINE, THIN)
    left_over -= doubles
    for i in left_over:
        outline(left, top, i, FEATURES, FLOW)
    for i in done:
        outline(left, top, i, INK, 3)
    if step in (0, 3):
        for i in left_over | set(done):
            label(left, top, i, f"{sure[i]:.1f}", INK)
d.save("suppression.svg")
