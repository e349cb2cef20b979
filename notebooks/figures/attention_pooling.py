"""Draws attention_pooling.svg: a bag of six images and one label. All numbers are computed."""

import numpy as np
from looks import ATTENTION, CARD, EDGE, FEATURES, INK, LINE, LOW, SMALL, TRUTH, Drawing, mix
from pictures import blur, patch, skin

ILL, HAIR = 3, 1  # the image with a lesion, which nobody marks, and one with a hair
images = np.stack([patch(seed, seed == ILL) for seed in range(6)])  # (n, H, W)
images[HAIR] = 0.85 - 0.8 * skin()[0][39:54, 55:70]
dark = 1 - images
wide = np.stack([blur(one, 2) for one in dark])
slopes = np.stack([np.hypot(*np.gradient(blur(one, 1))) for one in dark])
features = np.stack([  # (n, C), by hand; a network would learn them
    3 * wide.max((1, 2)) - 0.9,  # large and dark
    14 * slopes.mean((1, 2)) - 0.15,  # edges
    2 * (dark - wide).max((1, 2)) - 0.1,  # thin and dark
    1.6 * images.mean((1, 2)) - 0.5,  # plain skin
], axis=1)
V = np.array([[2.0, 0.6, -0.9, 0.0], [-0.5, 0.0, 0.8, 1.0]])  # (hidden, C), made by hand
w = np.array([2.2, -1.4])  # (hidden,)
scores = np.tanh(features @ V.T) @ w  # (n,)
shares = np.exp(scores) / np.exp(scores).sum()  # (n,)
bag = shares @ features  # (C,)
logit = bag @ np.array([3.0, 1.5, -1.0, -0.5]) - 1.0
assert logit > 0 and shares.argmax() == ILL

d = Drawing(
    592,
    "Attention pooling",
    "A bag of six small images of skin; the fourth has a dark lesion, the second a hair. The bag "
    "has one label, yes; no image has one. Each image becomes its features, a column of four "
    "cells. From the features comes a score for each image: "
    + ", ".join(f"{s:.1f}" for s in scores) + ". Their softmax over the bag gives the shares "
    + ", ".join(f"{s:.2f}" for s in shares) + ": the bar "
    "of the fourth is by far the highest. The features come along and are multiplied by the shares;"
    f" their sum is one column for the bag. It leads to one logit, {logit:.1f}, above zero: yes.",
)
X = [162 + 72 * k for k in range(6)]  # middles of the images; numbers stand left, features right
BAR, STRIP, SIDE, END = -10, 16, 16, 640
FEAT, ZERO, BASE, TIMES, WEIGHTED, RAIL = 118, 266, 388, 418, 444, 542
ONE, SCORE = 80, 16  # px of a share of 1, of a score of 1


def strip(x, y, vector, shown=1.0):
    """Features as a column of cells, x its middle and y its top."""
    for i, value in enumerate(vector):
        fill = mix(LOW[FEATURES], FEATURES, float(np.clip(value, 0, 1)))
        d.box(x - SIDE / 2, y + SIDE * i, SIDE, SIDE, fill)
    d.box(x - SIDE / 2, y, SIDE, SIDE * len(vector), "none", mix(EDGE, FEATURES, shown))


def number(x, value, y):
    """A bar up or down from zero, its number at the height y."""
    d.box(x - 14, ZERO - max(value, 0) * SCORE, 28, abs(value) * SCORE, FEATURES)
    d.text(x, y, f"{value:.1f}".replace("-", "−"), SMALL)


# the bag and its one label
d.box(X[0] - 34, 24, X[-1] - X[0] + 68, 68, "none", INK, 10)
d.line([(X[-1] + 34, 58), (END - 24, 58)], LINE)
d.box(END - 24, 43, 48, 30, TRUTH, TRUTH)
d.text(END, 58, "yes", SMALL, CARD)
d.text(END, 92, "label", color=TRUTH)

# scores and shares, and the features that come along
d.line([(X[0] - 34, ZERO), (X[-1] + 34, ZERO)])
for level in (0, 1):
    d.line([(X[0] - 34, BASE - ONE * level), (X[-1] + 34, BASE - ONE * level)], LINE)
    d.text(X[-1] + 46, BASE - ONE * level, str(level), SMALL, FEATURES)
for x, image, row, score, share in zip(X, images, features, scores, shares, strict=True):
    left, right, top = x + BAR, x + STRIP, FEAT + 4 * SIDE
    d.picture(x - 24, 34, 48, 48, image, steps=16)
    d.arrow([(right, 92), (right, FEAT)])
    d.arrow([(right, top), (right, WEIGHTED)])
    strip(right, FEAT, row)
    d.arrow([(right - 8, top - 32), (left, top - 32), (left, ZERO - max(score, 0) * SCORE)])
    number(left, score, ZERO + max(-score, 0) * SCORE + 13)
    d.bar(left, BASE, ONE, share, ATTENTION, 28, up=True)
    d.text(left, BASE - ONE * share - 12, f"{share:.2f}", SMALL)
    d.arrow([(left, BASE), (left, TIMES), (right - 10, TIMES)], ATTENTION, head=False)
    d.times(right, TIMES, r=10)
    strip(right, WEIGHTED, row * share, share)
    d.arrow([(right, WEIGHTED + 4 * SIDE), (right, RAIL), (END - 12, RAIL)])

# the sum and its logit
d.arrow([(END, RAIL - 12), (END, WEIGHTED + 4 * SIDE)])
d.plus(END, RAIL)
strip(END, WEIGHTED, bag)
d.arrow([(END, WEIGHTED), (END, ZERO)])
d.line([(END - 24, ZERO), (END + 24, ZERO)])
number(END, logit, ZERO - logit * SCORE - 12)
d.text(END, ZERO - logit * SCORE - 34, "yes", bold=True)

for x, y, word, under, color, anchor in (
    (24, 58, "bag", "", INK, "start"),
    (24, FEAT + 20, "features", "(B, n, C)", INK, "start"),
    (24, ZERO - 24, "scores", "(B, n)", INK, "start"),
    (24, BASE - 52, "shares", "(B, n)", ATTENTION, "start"),
    (24, WEIGHTED + 20, "weighted", "(B, n, C)", INK, "start"),
    (END - 20, WEIGHTED + 20, "sum", "(B, C)", INK, "end"),
    (END, ZERO - 112, "logit", "(B, 1)", INK, "middle"),
):
    d.text(x, y, word, color=color, anchor=anchor)
    if under:
        d.text(x, y + 24, under, SMALL, FEATURES, anchor)
d.save("attention_pooling.svg")
