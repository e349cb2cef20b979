"""Draws cbam.svg: CBAM of course_utils/attention.py. Only the weights are made by hand."""

import numpy as np
from looks import ATTENTION, FEATURES, FLOW, HEAD, INK, LINE, LOW, SMALL, Drawing, side, window
from pictures import channels

CELLS, K = 20, 7
maps = channels(CELLS)[:4] * np.array([1, 0.6, 0.85, 0.7])[:, None, None]  # (C, H, W), C = 4


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# channel half: two hidden numbers, C / r; one speaks for the lesion, one for hair and edges
means, peaks = maps.mean((1, 2)), maps.max((1, 2))  # (C,) each
w1 = np.array([[2.0, -1.0, 2.0, -1.0], [-1.0, 2.0, -1.0, 2.0]])
w2 = np.array([[1.5, -0.8, 1.0, -1.0], [-0.5, 0.4, -0.4, -0.2]]).T
logits = sum(w2 @ np.maximum(w1 @ pooled, 0) for pooled in (means, peaks))
gates = sigmoid(logits)  # (C,)
louder = maps * gates[:, None, None]  # (C, H, W)

# spatial half: the kernel is 98 equal numbers
pooled = np.stack([louder.mean(0), louder.max(0)])  # (2, H, W)
padded = np.pad(pooled, ((0, 0), (K // 2, K // 2), (K // 2, K // 2)))
windows = np.lib.stride_tricks.sliding_window_view(padded, (K, K), (1, 2))  # (2, H, W, K, K)
weights = sigmoid(26 * windows.mean((0, 3, 4)) - 8)  # (H, W)

d = Drawing(
    608,
    "CBAM: which channel, then where",
    "Two rows. Above, the channel half: four feature maps, each pooled over places to its mean "
    "and its maximum. Both lists go through one perceptron with a narrow waist, the two results "
    "meet in a plus, and a sigmoid makes a gate for each map, which multiplies it. An arrow "
    "leads down to the spatial half. It pools the weighted maps over the channels to two maps, a "
    "window of 7 by 7 places on both and a sigmoid make one orange map, and all are multiplied "
    "by it.",
)
PITCH, SIZE = 32, {"w": 68, "h": 44, "lean": 32}
LEFT, SIGN, RIGHT = 24, 530, 576
TOPS, HIGH = (78, 374), 3 * PITCH + SIZE["h"]


def bypass(stack, top):
    x, y = stack[-1].bottom
    return [(x, y), (x, top + HIGH + 20), (SIGN, top + HIGH + 20)]


# the channel half: two lists, one perceptron for both
rows = [TOPS[0] + PITCH * i + SIZE["h"] / 2 for i in range(4)]
middle = sum(rows) / 4
pair = middle - 36, middle + 36
waist = middle - 12, middle + 12
for y in pair:
    d.arrow([(70, y), (160, y)])
    d.arrow([(222, y), (262, y)])
stack = d.stack(LEFT, TOPS[0], maps, PITCH, **SIZE)
for y, numbers in zip(pair, (means, peaks)):
    for i, number in enumerate(numbers):
        d.bar(164, y - 19.5 + 13 * i, 54 / numbers.max(), number, thick=10)
d.text(191, pair[0] - 38, "mean", SMALL)
d.text(191, pair[1] + 38, "max", SMALL)
for x in (262, 354):
    d.area([(x, pair[0] - 14), (308, waist[0] - 10), (308, waist[1] + 10), (x, pair[1] + 14)],
           LOW[FEATURES])
    for y in np.linspace(pair[0], pair[1], 4):
        for w in waist:
            d.line([(x, y), (308, w)], LINE)
for w in waist:
    d.dot(308, w, 8, FEATURES)
for y, way in zip(pair, (-12, 12)):
    d.arrow([(354, y), (386, y), (386, middle + way)])
d.plus(386, middle)
d.arrow([(398, middle), (420, middle)])

# each map meets its gate
weighted = d.stack(RIGHT, TOPS[0], louder, PITCH, gates, **SIZE)
d.arrow([(SIGN, rows[-1]), (SIGN, rows[0])], head=False)
d.arrow([*bypass(stack, TOPS[0]), (SIGN, rows[-1] + 10)])
d.line([(421, rows[0] - 14), (421, rows[-1] + 14)], LINE)
for y, gate, sheet in zip(rows, gates, weighted):
    d.line([(484, y), (SIGN, y)], ATTENTION)
    d.bar(421, y, 62, gate, ATTENTION, track=True)
    d.arrow([(SIGN, y), sheet.left])
    d.times(SIGN, y, r=10)

# the spatial half begins with what the channel half gave
I, J = 10, 8  # the place that is followed: row, column
middle = TOPS[1] + HIGH / 2
pair = middle - 38, middle + 38


def place(sheet, rows=0.0, columns=0.0):
    """The place on a sheet, or one that lies some rows and columns away."""
    return sheet.at((J + 0.5 + columns) / CELLS, (I + 0.5 + rows) / CELLS)


for y in pair:
    d.arrow([(70, y), (188, y)])
x, y = weighted[-1].bottom
stack = d.stack(LEFT, TOPS[1], louder, PITCH, gates, **SIZE)
d.arrow([(x, y), (x, 306), (stack[0].top[0], 306), stack[0].top])
d.line([place(stack[0]), place(stack[-1])], INK, FLOW)
two = [d.sheet(176, y - 22, one, **SIZE) for one, y in zip(pooled, pair)]
d.text(250, pair[0] - 34, "mean", SMALL)
d.text(210, pair[1] + 36, "max", SMALL)
weight = d.sheet(376, middle - 22, weights, ATTENTION, **SIZE)
window(d, two, weight, place, K)
for sheet in (*stack, *two, weight):
    d.dot(*place(sheet))
after = d.stack(RIGHT, TOPS[1], louder * weights, PITCH, gates, **SIZE)
d.arrow([*bypass(stack, TOPS[1]), (SIGN, middle + 12)])
d.arrow([weight.right, (SIGN - 12, middle)], ATTENTION)
d.arrow([(SIGN, middle), (side(after, middle)[0], middle)])
d.times(SIGN, middle)

d.row(30, (
    (134, "pool", "over places", INK),
    (308, "excite", "shared perceptron", INK),
), head=True)
d.row(329, (
    (170, "pool", "over channels", INK),
    (330, "convolve", "7 × 7", INK),
), head=True)
d.row(263, ((74, "features", "(N, C, H, W)", INK), (452, "gates", "(N, C, 1, 1)", ATTENTION)))
d.row(560, (
    (74, "weighted", "(N, C, H, W)", INK),
    (426, "map", "(N, 1, H, W)", ATTENTION),
))
for y in (30, 329):
    d.text(SIGN, y, "scale", HEAD, bold=True)
d.text(226, 584, "(N, 2, H, W)", SMALL, FEATURES)
d.save("cbam.svg")
