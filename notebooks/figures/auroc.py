"""Draws auroc.svg: the six pairs of chapter 01, and what of them is won."""

import numpy as np
from looks import CARD, FEATURES, INK, LINE, LOW, SMALL, TRUTH, Drawing
from pictures import xray

positives, negatives = np.array([3.0, 2, 0]), np.array([2.0, 1])
worth = (positives[:, None] > negatives) + 0.5 * (positives[:, None] == negatives)  # (P, Q)
share = worth.mean()

d = Drawing(
    452,
    "AUROC as a share of pairs",
    "A grid of pairs: three X-rays with pneumonia, with scores 3, 2 and 0, are its rows; two "
    "without, with scores 2 and 1, its columns. A pair is filled where the positive has the higher "
    "score: three pairs are won. The one tie, 2 against 2, is filled by half. Two pairs are lost "
    f"and stay pale. Below, the six squares are end to end: {worth.sum():g} of 6 are filled, so "
    f"the AUROC is {share:.2f}.",
)
CELL, LEFT, TOP = 74, 286, 138
rows = [TOP + CELL * (i + 0.5) for i in range(3)]
columns = [LEFT + CELL * (j + 0.5) for j in range(2)]


def square(x, y, side, value):
    """A pair: full if won, half if tied."""
    d.box(x, y, side, side, LOW[FEATURES])
    if value == 0.5:
        d.area([(x, y), (x + side, y), (x, y + side)], FEATURES)
    elif value:
        d.box(x, y, side, side, FEATURES)
    d.box(x, y, side, side, "none", LINE)


for i, score in enumerate(positives):
    d.picture(146, rows[i] - 29, 58, 58, xray((1, 3, 5)[i], True, 40))
    d.text(LEFT - 40, rows[i], f"{score:.0f}", 22, bold=True)
for j, score in enumerate(negatives):
    d.picture(columns[j] - 29, 34, 58, 58, xray((0, 2)[j], False, 40))
    d.text(columns[j], 115, f"{score:.0f}", 22, bold=True)
for i, j in np.ndindex(worth.shape):
    x, y = LEFT + CELL * j, TOP + CELL * i
    square(x, y, CELL, worth[i, j])
    word = {1: "won", 0.5: "tie", 0: "lost"}[worth[i, j]]
    d.text(x + CELL / 2 + 16 * (word == "tie"), y + CELL / 2 + 16 * (word == "tie"), word, SMALL,
           CARD if word == "won" else INK)
d.text(130, rows[1], "positives", anchor="end", color=TRUTH)
d.text(columns[1] + 46, 63, "negatives", anchor="start", color=TRUTH)

# the same squares end to end
SIDE, Y = 36, 394
for n, value in enumerate(np.sort(worth.ravel())[::-1]):
    square(LEFT + SIDE * n, Y - SIDE / 2, SIDE, value)
d.text(LEFT - 16, Y, "AUROC", anchor="end", bold=True)
d.text(LEFT + SIDE * 6 + 14, Y, f"{worth.sum():g} / 6 = {share:.2f}", anchor="start")
d.save("auroc.svg")
