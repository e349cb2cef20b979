"""Draws three_steps.svg: what all attention in the course shares. The weights are computed."""

import numpy as np
from looks import ATTENTION, FLOW, INK, Drawing, side
from pictures import channels, shrink, skin

CELLS = 20
maps = channels(CELLS)[[0, 2, 3, 4]]  # (C, H, W); convolutions would make them
score = 14 * maps[0] - 6  # by hand, as in chapter 02: what is dark and large matters
weights = 1 / (1 + np.exp(-score))  # (H, W)

d = Drawing(
    370,
    "Three steps",
    "From left to right. First, extract: a photograph of skin with a lesion and two hairs becomes "
    "four feature maps. Second, compute: from the features come the weights, one orange map, dark "
    "on the lesion. Third, reweight: the features, which come along below, are multiplied by the "
    "weights. In the result the lesion is as it was and the hairs have faded.",
)
PITCH, TOP, SIZE = 44, 92, {"w": 80, "h": 54, "lean": 38}
middle = TOP + 1.5 * PITCH + SIZE["h"] / 2

d.picture(24, middle - 48, 96, 96, 1 - shrink(skin()[0], 40, 40))
d.line([(250, middle), (300, middle)], ATTENTION, FLOW)
stack = d.stack(180, TOP, maps, PITCH, **SIZE)
d.arrow([(120, middle), side(stack, middle)])
weight = d.sheet(370, middle - SIZE["h"] / 2, weights, ATTENTION, **SIZE)
d.arrow([(298, middle), weight.left], ATTENTION)
weighted = d.stack(558, TOP, maps * weights, PITCH, **SIZE)
x, y = stack[-1].bottom
d.arrow([(x, y), (x, y + 20), (518, y + 20), (518, middle + 12)])
d.arrow([weight.right, (506, middle)], ATTENTION)
d.arrow([(518, middle), side(weighted, middle)])
d.times(518, middle)

d.row(34, (
    (150, "1 extract", "features", INK),
    (328, "2 compute", "weights", INK),
    (518, "3 reweight", "features", INK),
), head=True)
for x, word, color in (
    (72, "image", INK),
    (239, "features", INK),
    (429, "weights", ATTENTION),
    (617, "reweighted", INK),
):
    d.text(x, y + 50, word, color=color)
d.save("three_steps.svg")
