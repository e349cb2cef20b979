"""Draws logits.svg: the three logits of chapter 00, their probabilities, and what they cost."""

import numpy as np
from looks import CARD, FEATURES, FLOW, INK, LINE, LOSS, SMALL, Drawing

logits = np.array([-2.0, 1.0, 2.0])
chances = 1 / (1 + np.exp(-logits))
costs = -np.log(chances)  # binary cross-entropy for label 1
shown = [f"{z:+.0f}".replace("-", "−") for z in logits]

d = Drawing(
    430,
    "From a logit to a probability to a loss",
    "On the left the sigmoid, an S-shaped curve from 0 to 1 over logits from -4 to 4, with three "
    f"points: logits -2, 1 and 2 have probabilities {chances[0]:.2f}, {chances[1]:.2f} and "
    f"{chances[2]:.2f}. A line leads from each to the right, at the height of its probability, to "
    f"a bar: on a positive image they cost {costs[0]:.2f}, {costs[1]:.2f} and {costs[2]:.2f}. The "
    "ends of the bars lie on a curve, minus the logarithm of the probability.",
)
LEFT, RIGHT, COST, UNIT = 56, 348, 440, 82  # px of a cost of 1
TOP, BOTTOM = 104, 352


def across(z):
    return LEFT + (RIGHT - LEFT) * (np.asarray(z) + 4) / 8


def height(p):
    return BOTTOM - (BOTTOM - TOP) * np.asarray(p)


# the sigmoid
for level in (0, 1):
    d.line([(LEFT, height(level)), (RIGHT, height(level))], LINE)
    d.text(LEFT - 14, height(level), str(level), SMALL, FEATURES)
d.line([(across(0), TOP), (across(0), BOTTOM)], LINE)
z = np.linspace(-4, 4, 81)
d.line(list(zip(across(z), height(1 / (1 + np.exp(-z))))), FEATURES, FLOW)

# the costs at the same heights
p = np.linspace(np.exp(-(676 - COST) / UNIT), 1, 80)
d.line(list(zip(COST - UNIT * np.log(p), height(p))), LOSS)
d.line([(COST, TOP), (COST, BOTTOM)], LINE)
for logit, chance, cost, word in zip(logits, chances, costs, shown, strict=True):
    x, y = across(logit), height(chance)
    d.line([(x, BOTTOM), (x, y), (COST, y)], INK)
    d.dot(x, y, 6, FEATURES)
    d.bar(COST, y, UNIT, cost, LOSS)
    d.text(x, BOTTOM + 17, word, SMALL)
    d.text(COST - 9, y - 12, f"{chance:.2f}", SMALL, FEATURES, "end")
    if cost > 1:
        d.text(COST + UNIT * cost / 2, y, f"{cost:.2f}", SMALL, CARD)
    else:
        d.text(COST + UNIT * cost + 9, y, f"{cost:.2f}", SMALL, LOSS, "start")

d.text(across(0), BOTTOM + 17, "0", SMALL, FEATURES)

d.row(34, (
    ((LEFT + RIGHT) / 2, "sigmoid", "logit to probability", INK),
    (558, "−log p", "on a positive", INK),
), head=True)
d.text((LEFT + RIGHT) / 2, 398, "logit")
d.text(COST - 46, 398, "probability")
d.text(558, 398, "loss", color=LOSS)
d.save("logits.svg")
