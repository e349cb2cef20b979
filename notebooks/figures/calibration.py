"""Draws calibration.svg: what was said against what was found, for two models that rank alike."""

import numpy as np
import torch
from looks import CARD, FEATURES, FLOW, HEAD, INK, LINE, LOW, SMALL, TRUTH, Drawing

from course_utils import metrics

# Made numbers: 1,000 cases, positive as often as the first model says. The second model's logits
# are 2.5 times as large: the same order, too sure at both ends.
rng = np.random.default_rng(4)
logits = torch.tensor(rng.normal(0, 1.6, 1000))
labels = (torch.tensor(rng.random(1000)) < logits.sigmoid()).long()

d = Drawing(
    478,
    "Calibrated and overconfident",
    "Two panels, what was found over what was said, in five bins. Left, calibrated: the blue "
    "bars, the share of positives found, end at the diagonal, where the dots mark what was said. "
    "Right, overconfident: below one half the bars end above the dots, above one half below "
    "them. Under each panel a rectangle for each bin, as wide as its share of the cases and as "
    "high as its gap. Their area is the expected calibration error, 0.02 on the left and 0.12 on "
    "the right.",
)
SIDE, TOP, STRIP = 224, 62, 402
for left, name, scale in ((80, "calibrated", 1), (448, "overconfident", 2.5)):
    p = (scale * logits).sigmoid()
    rows = metrics.reliability(p, labels, bins=5)
    error = metrics.calibration_error(p, labels, bins=5)
    base = TOP + SIDE
    d.text(left + SIDE / 2, 34, name, HEAD, bold=True)

    # found over said
    d.line([(left, TOP), (left, base), (left + SIDE, base)], LINE)
    for said, found in zip(rows.said, rows.found):
        x = left + SIDE * said
        d.box(x - 9, base - SIDE * found, 18, SIDE * found, LOW[TRUTH], TRUTH)
    d.line([(left, base), (left + SIDE, TOP)], LINE)
    for said, found in zip(rows.said, rows.found):
        x = left + SIDE * said
        d.line([(x, base - SIDE * found), (x, base - SIDE * said)], INK, FLOW)
        d.dot(x, base - SIDE * said, 5, FEATURES)
    d.text(left - 10, TOP + 2, "1", SMALL, FEATURES)
    d.text(left - 10, base, "0", SMALL, FEATURES)
    d.text(left, base + 18, "0", SMALL, FEATURES)
    d.text(left + SIDE, base + 18, "1", SMALL, FEATURES)
    d.text(left + SIDE / 2, base + 18, "said", SMALL, FEATURES)
    d.text(left - 8, TOP + SIDE / 2, "found", SMALL, TRUTH, "end")

    # the gaps, each as wide as its bin has cases
    start = left
    for share, gap in zip(rows.images / len(p), abs(rows.said - rows.found)):
        d.box(start, STRIP - SIDE * gap, SIDE * share, SIDE * gap, FEATURES)
        start += SIDE * share
        d.line([(start, STRIP - 60), (start, STRIP)], CARD)
    d.line([(left, STRIP - SIDE * 0.2), (left, STRIP), (left + SIDE, STRIP)], LINE)
    for value in (0, 0.2):
        d.text(left - 8, STRIP - SIDE * value, f"{value}", SMALL, FEATURES, "end")
    d.text(left - 8, STRIP - SIDE * 0.1, "gap", SMALL, anchor="end")
    d.text(left + SIDE / 2, STRIP + 18, "cases", SMALL, FEATURES)
    d.text(left + SIDE / 2, STRIP + 46, f"ECE, the area: {error:.2f}")
d.save("calibration.svg")
