"""Draws residual_block.svg: ResidualBlock of course_utils/senet.py, and where a gate could sit."""

from itertools import pairwise

import numpy as np
from looks import ATTENTION, FEATURES, LOW, SMALL, Drawing, mix, side
from pictures import blur, channels

x = channels(16)[[0, 2, 3, 5]]  # (C, H, W), C = 4
# F(x) and the gates are made by hand: what stands out from its surroundings, and how loud it is.
found = np.stack([one - blur(one, 2) for one in x])
gates = 1 / (1 + np.exp(4 - 30 * found.std((1, 2))))  # (C,)
y = np.maximum(2 * gates[:, None, None] * found + x, 0)

d = Drawing(
    374,
    "A residual block with a gate",
    "From left to right: features x, convolution, norm, ReLU, convolution, norm, a "
    "multiplication sign that four gates enter from below, a plus, a ReLU, features y. The "
    "shortcut leaves x upwards, arches over all of it and comes down into the plus. Pale numbers "
    "mark three other places for the gate: 1 before the first convolution, 2 on the shortcut, 3 "
    "after the plus.",
)
ROW, ARCH, PITCH, SIZE = 182, 62, 32, {"w": 34, "h": 36, "lean": 16}
TOP = ROW - (3 * PITCH + SIZE["h"]) / 2
PALE = mix(LOW[ATTENTION], ATTENTION, 0.4)


def place(x, y, number):
    """Another place for the gate."""
    d.add("circle", cx=float(x), cy=float(y), r=11, fill=LOW[ATTENTION], stroke=PALE)
    d.text(x, y, number, SMALL, ATTENTION)


# what the line meets: left end, width, word; the signs are as wide as their discs
PARTS = (
    (80, 22, "1"), (118, 50, "conv"), (185, 50, "norm"), (252, 44, "relu"), (313, 50, "conv"),
    (380, 50, "norm"), (448, 24, "times"), (490, 24, "plus"), (522, 22, "3"), (560, 44, "relu"),
)
stack = d.stack(24, TOP, x, PITCH, **SIZE)
after = d.stack(676 - SIZE["w"] - SIZE["lean"], TOP, np.clip(y, 0, 1), PITCH, **SIZE)
stacks, d.parts = d.parts, []
start, gate, end = stack[0].middle[0], 460, 502  # of the shortcut, of the gate
half = (start + end) / 2
d.arrow([(start, TOP + 10), (start, ARCH), (half - 11, ARCH)], head=False)
d.arrow([(half + 11, ARCH), (end, ARCH), (end, ROW - 12)])
met = (start, 0, ""), *PARTS, (side(after, ROW)[0], 0, "")
for (left, w, _), (then, _, word) in pairwise(met):
    d.arrow([(left + w, ROW), (then, ROW)], head=not word.isdigit())
d.parts += stacks

place(half, ARCH, "2")
for left, w, word in PARTS:
    if word.isdigit():
        place(left + w / 2, ROW, word)
    elif word == "plus":
        d.plus(left + w / 2, ROW)
    elif word != "times":
        d.block(left + w / 2, ROW, word, w=w)

# the gates of the four channels enter from below
d.arrow([(gate, ROW + 48), (gate, ROW + 12)], ATTENTION)
for i, share in enumerate(gates):
    d.bar(gate - 28, ROW + 56 + 16 * i, 56, share, ATTENTION, 12, track=True)
d.times(gate, ROW)

d.text(half, ARCH - 26, "shortcut")
d.row(322, ((gate, "gates", "(N, C, 1, 1)", ATTENTION),))
for x, word, anchor in ((24, "x", "start"), (676, "y", "end")):
    d.text(x, 322, word, anchor=anchor)
    d.text(x, 346, "(N, C, H, W)", SMALL, FEATURES, anchor)
d.save("residual_block.svg")
