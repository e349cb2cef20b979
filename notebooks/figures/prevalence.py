"""Draws prevalence.svg: 100 images in two mixes. Scores are quantiles of two normal
distributions whose logits are right where half are positive."""

from collections import Counter

import numpy as np
from looks import FEATURES, FLOW, INK, LINE, LOW, SMALL, TRUTH, Drawing, mix
from scipy.stats import norm

FOUND = 0.9  # sensitivity and specificity at a threshold of 0.5, which is a logit of 0
MEAN = 2 * norm.ppf(FOUND) ** 2  # then a variance of 2 MEAN makes the logit the true log odds
SPREAD = np.sqrt(2 * MEAN)
MIXES = 50, 10  # positives of 100


def logits(count, mean):
    return mean + SPREAD * norm.ppf((np.arange(count) + 0.5) / count)


counts = []
for positives in MIXES:
    ill, healthy = logits(positives, MEAN), logits(100 - positives, -MEAN)
    counts.append((int((ill > 0).sum()), int((healthy > 0).sum())))
(right, wrong), (few, many) = counts

d = Drawing(
    506,
    "A threshold of 0.5 in two mixes",
    "Two panels of 100 images each. Every image is a square, placed by its logit: positives are "
    "blue, above a line, negatives slate, below it. An upright line marks the threshold of 0.5. To "
    "its right are the alarms, in full colour, and once more in a bar below. On the left 50 of 100 "
    f"are positive: {right} of {right + wrong} alarms are right. On the right the same two "
    f"distributions with 10 positives and 90 negatives: {few} of {few + many} alarms are right.",
)
SQUARE, TOP, ZERO, BOTTOM = 12, 92, 200, 384
ONE = 288 / 50  # px of an alarm
MIDDLES = 184, 516

for middle, positives, (hits, alarms) in zip(MIDDLES, MIXES, counts, strict=True):
    for count, mean, color, up in (
        (positives, MEAN, TRUTH, True),
        (100 - positives, -MEAN, FEATURES, False),
    ):
        for column, n in Counter(np.floor(logits(count, mean)).astype(int)).items():
            for k in range(n):
                x = middle + SQUARE * column
                y = ZERO - SQUARE * (k + 1) if up else ZERO + SQUARE * k
                shown = color if column >= 0 else mix(LOW[color], color, 0.3)
                d.box(x + 0.5, y + 0.5, SQUARE - 1, SQUARE - 1, shown)
    d.line([(middle - 12 * SQUARE, ZERO), (middle + 12 * SQUARE, ZERO)], LINE)
    d.line([(middle, TOP), (middle, BOTTOM)], INK, FLOW)
    d.text(middle, BOTTOM + 17, "0.5", SMALL)
    d.text(middle - 12 * SQUARE, ZERO - 18, "positives", color=TRUTH, anchor="start")
    d.text(middle + 12 * SQUARE, ZERO + 54, "negatives", color=FEATURES, anchor="end")
    for count, start, color in ((hits, 0, TRUTH), (alarms, hits, FEATURES)):
        d.box(middle - 12 * SQUARE + ONE * start, 436, ONE * count, 22, color)
    word = f"{hits} of {hits + alarms} alarms right"
    d.text(middle - 12 * SQUARE, 480, word, anchor="start")
d.row(34, tuple((m, f"{p} of 100", "positive", INK) for m, p in zip(MIDDLES, MIXES)), head=True)
d.save("prevalence.svg")
