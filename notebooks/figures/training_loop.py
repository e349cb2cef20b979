"""Draws training_loop.svg: one turn of the loop of chapter 00, computed. The network is the
smallest there is: a weight for each of six regions of the image."""

import numpy as np
from looks import CARD, FEATURES, FLOW, INK, LINE, LOSS, LOW, SMALL, TRUTH, Drawing
from pictures import shrink, xray

labels = np.array([1.0, 0, 1, 0])  # (N,)
images = np.stack([xray(i, bool(y), 42) for i, y in zip((1, 0, 3, 4), labels)])  # (N, H, W)
regions = np.stack([shrink(i[6:39, 6:36], 3, 2).ravel() for i in images])  # (N, 6)
regions = (regions - regions.mean(0)) / regions.std(0)
weights = np.array([0.3, 0.9, 0.2, -0.3, 0.4, -0.6])  # made by hand
logits = regions @ weights  # (N,)
chances = 1 / (1 + np.exp(-logits))
loss = -(labels * np.log(chances) + (1 - labels) * np.log(1 - chances)).mean()
gradients = (chances - labels) @ regions / 4  # (6,)
moved = weights - 0.3 * gradients  # the step
assert logits[3] > 0, "one of the four should be wrong"

d = Drawing(
    462,
    "The training loop",
    "A ring of four arrows. Predict: a batch of four chest X-rays goes through six weights, drawn "
    "as bars, and becomes four logits, bars to the right or left of zero, next to their labels 1, "
    f"0, 1, 0; the last is wrong. Measure: logits and labels give the loss, {loss:.2f}. Backward: "
    "an arrow runs from the loss against the flow to six gradients, one under each weight. Step: "
    "an arrow leads from the gradients up to the weights. A tick at each weight shows where it "
    "moves: a little, against its gradient.",
)
ROWS = [88 + 52 * i for i in range(4)]
MIDDLE, LOW_ROW = sum(ROWS) / 4, 374
NET, LOGIT, LABEL = 230, 530, 640  # middles; for the logits it is their zero
HALF, PITCH, BETWEEN = 66, 20, 378


def signed(y, values, color, one):
    """Numbers as bars up or down from a line through the box around (NET, y)."""
    d.box(NET - HALF, y - 46, 2 * HALF, 92, LOW[color], color, 7)
    d.line([(NET - HALF + 6, y), (NET + HALF - 6, y)], LINE)
    for i, value in enumerate(values):
        x = NET + PITCH * (i - 2.5)
        d.box(x - 7, y - max(value, 0) * one, 14, abs(value) * one, color)


for y, image in zip(ROWS, images, strict=True):
    d.picture(24, y - 22, 44, 44, image)
d.arrow([(68, MIDDLE), (NET - HALF, MIDDLE)])
signed(MIDDLE, weights, FEATURES, 42)
for i, value in enumerate(moved):
    x = NET + PITCH * (i - 2.5)
    d.line([(x - 10, MIDDLE - 42 * value), (x + 10, MIDDLE - 42 * value)], LOSS, FLOW)

# predict
d.arrow([(NET + HALF, MIDDLE), (LOGIT, MIDDLE)])
d.text(BETWEEN, MIDDLE - 22, "predict", 22, bold=True)
d.line([(LOGIT, ROWS[0] - 18), (LOGIT, ROWS[-1] + 18)], LINE)
for y, logit, label in zip(ROWS, logits, labels, strict=True):
    one = 60 / abs(logits).max()
    d.box(LOGIT + min(logit, 0) * one, y - 8, abs(logit) * one, 16, FEATURES)
    d.box(LABEL - 15, y - 15, 30, 30, TRUTH if label else LOW[TRUTH], TRUTH)
    d.text(LABEL, y, f"{label:.0f}", SMALL, CARD if label else TRUTH)

# measure
PILL = (LOGIT + LABEL) / 2
d.arrow([(LOGIT, ROWS[-1] + 26), (LOGIT, 310), (PILL, 310), (PILL, LOW_ROW - 18)])
d.arrow([(LABEL, ROWS[-1] + 26), (LABEL, 310), (PILL, 310), (PILL, LOW_ROW - 18)])
d.text(PILL - 18, 336, "measure", 22, anchor="end", bold=True)
d.block(PILL, LOW_ROW, f"{loss:.2f}", LOSS, 76, full=True)

# backward and step
d.arrow([(PILL - 38, LOW_ROW), (NET + HALF, LOW_ROW)], LOSS)
d.text(BETWEEN, LOW_ROW - 22, "backward", 22, LOSS, bold=True)
signed(LOW_ROW, gradients, LOSS, 42 / abs(gradients).max())
d.arrow([(NET, LOW_ROW - 46), (NET, MIDDLE + 46)])
d.text(NET - 16, (LOW_ROW + MIDDLE) / 2, "step", 22, anchor="end", bold=True)

for x, y, word, color in (
    (46, 34, "batch", INK),
    (NET, MIDDLE - 66, "weights", INK),
    (LOGIT, 34, "logits", INK),
    (LABEL, 34, "labels", TRUTH),
    (NET, 438, "gradients", LOSS),
    (PILL, 438, "loss", LOSS),
):
    d.text(x, y, word, color=color)
d.save("training_loop.svg")
