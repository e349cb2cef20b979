"""Draws additive_gate.svg: AttentionGate of chapter 06. The weights are made by hand."""

import numpy as np
from looks import ATTENTION, INK, Drawing
from pictures import blur, channels, enlarge, scaled, shrink, skin

CELLS = 20
x = channels(CELLS)[[0, 3, 2]]  # (C, H, W), the skip: the lesion, hair, borders
_, mask = skin()
knows = shrink(blur(mask.astype(float), 4), CELLS // 2, CELLS // 2)
g = np.stack([knows, scaled(1 - knows) * 0.4, np.abs(np.gradient(knows)[1]) * 3])  # (C_g, H/2, W/2)
# one hidden channel: what the skip found, what the signal knows
skip = np.tensordot([0.5, 0.5, 0.5], x, 1)  # (H, W)
signal = enlarge(np.tensordot([1.5, -0.5, 0.0], g, 1), CELLS, CELLS)
total = np.maximum(skip + signal - 0.5, 0)
weights = 1 / (1 + np.exp(-(6 * total - 3)))  # (H, W)

d = Drawing(
    452,
    "The additive attention gate",
    "On the left the skip x with C maps, and below it the coarser signal g with maps of half the "
    "height and width. Each goes through a convolution of 1 by 1; the signal is raised to the "
    "size of the skip. A plus adds the two. ReLU, psi, a convolution of 1 by 1, and a sigmoid "
    "make one orange map. It multiplies the skip, which comes along above: the lesion stays, the "
    "hair fades.",
)
SKIP, OWN, SUM, ASKED = 60, 132, 236, 336  # heights of the four paths
GATE = 558  # where the map meets the skip
SIZE = {"w": 56, "h": 40, "lean": 26}
HALF = {"w": 40, "h": 28, "lean": 18}

x_stack = d.stack(24, SKIP - 20, x, 36, **SIZE)
g_stack = d.stack(36, ASKED - 40, np.clip(g, 0, 1), 26, **HALF)
weighted = d.stack(594, SKIP - 20, x * weights, 36, **SIZE)
sheets, d.parts = d.parts, []  # they will lie above the lines

# the skip goes across, past the gate
d.arrow([x_stack[0].middle, (GATE - 12, SKIP)])
d.arrow([(GATE + 12, SKIP), weighted[0].left])

# both are brought to the same channels and the same size, and added
for y, start, values in ((OWN, x_stack[2], skip), (ASKED, g_stack[1], signal)):
    sheet = d.sheet(184, y - 20, np.clip(values / values.max(), 0, 1), **SIZE)
    d.arrow([start.middle, (120, y)])
    d.arrow([(172, y), sheet.left])
    d.arrow([sheet.right, (292, y), (292, SUM + (12 if y > SUM else -12))])
    d.block(146, y, "1 × 1", w=52)
d.plus(292, SUM)

# from the sum to the map
gate = d.sheet(GATE - 41, SUM - 20, weights, ATTENTION, **SIZE)
last = 304
for left, w, word in ((322, 44, "relu"), (383, 39, "ψ"), (439, 76, "sigmoid")):
    d.arrow([(last, SUM), (left, SUM)])
    d.block(left + w / 2, SUM, word, w=w)
    last = left + w
d.arrow([(last, SUM), gate.left])
d.arrow([(GATE, gate.y), (GATE, SKIP + 12)], ATTENTION)
d.times(GATE, SKIP)
d.parts += sheets

d.row(178, ((70, "skip x", "(N, C, H, W)", INK), (630, "weighted", "(N, C, H, W)", INK)))
d.row(402, ((74, "signal g", "(N, C′, H′, W′)", INK), (226, "raised", "(N, hidden, H, W)", INK)))
d.row(282, ((GATE - 8, "map", "(N, 1, H, W)", ATTENTION),))
d.save("additive_gate.svg")
