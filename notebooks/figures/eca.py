"""Draws eca.svg: ECA of course_utils/attention.py with k = 3 weights that are made by hand."""

import numpy as np
from looks import ATTENTION, FEATURES, INK, LINE, LOW, SMALL, Drawing, scale
from pictures import channels

maps = channels(16)  # (C, H, W), C = 6
means = maps.mean((1, 2))  # (C,)
KERNEL = np.array([-4.0, 12.0, -4.0])
padded = np.pad(means, 1)  # 0 beyond the ends
logits = np.array([KERNEL @ padded[i : i + 3] for i in range(6)])
gates = 1 / (1 + np.exp(-logits))  # (C,), no bias

d = Drawing(
    480,
    "ECA: each gate sees three neighbouring means",
    "Six feature maps, one above the other, and beside each its mean, a bar. A small box with "
    "three weights, −4, 12 and −4, covers three neighbouring means and leads to the gate of the "
    "middle one. An arrow shows that the box slides along the list: the other gates get their "
    "three means in the same way, and beyond both ends stands a zero. Each map is multiplied by "
    "its gate.",
)
PITCH, TOP, SIZE = 46, 104, {"w": 74, "h": 50, "lean": 36}
rows = [TOP + PITCH * i + SIZE["h"] / 2 for i in range(6)]
ENDS = [rows[0] - PITCH * 0.7, *rows, rows[-1] + PITCH * 0.7]  # where the kernel reads its numbers
BOX, READ, SENT = 244, 290, 364  # the kernel, its right edge, the gates

# squeeze: a bar for each sheet
for i, y in enumerate(rows):
    d.line([(90, y), (READ if i in (0, 4, 5) else BOX, y)], LINE)
stack = d.stack(24, TOP, maps, PITCH, **SIZE)
for y, mean in zip(rows, means):
    d.bar(150, y, 64 / means.max(), mean)

# slide: three means for each gate, always with the same three weights
for i, y in enumerate(rows):
    for start in ENDS[i : i + 3]:
        d.line([(READ, start), (SENT, y)], INK if i == 2 else LINE)
for y in (ENDS[0], ENDS[-1]):
    d.text(READ - 10, y, "0", SMALL, FEATURES)
top, bottom = rows[1] - 20, rows[3] + 20
d.box(BOX, top, 46, bottom - top, LOW[FEATURES], FEATURES, 7)
d.arrow([(BOX + 23, bottom), (BOX + 23, bottom + 46)])
for y, mean, weight in zip(rows[1:4], means[1:4], KERNEL):
    d.line([(150 + 64 * mean / means.max(), y), (BOX, y)])
    d.text(BOX + 23, y, f"{weight:.0f}".replace("-", "−"))

# scale: the features come along below, each sheet meets its gate
shown = [m * g for m, g in zip(maps, gates)]
weighted = d.stack(566, TOP, shown, PITCH, gates, **SIZE)
for y in rows:
    d.line([(SENT, y), (374, y)], INK if y == rows[2] else LINE)
scale(d, rows, stack, weighted, gates, stack[-1].bottom[1] + 20)

d.row(34, (
    (146, "squeeze", "over places", INK),
    (304, "slide", "the same 3 weights", INK),
    (506, "scale", "channel by channel", INK),
), head=True)
d.row(428, (
    (80, "features", "(N, C, H, W)", INK),
    (192, "means", "(N, C)", INK),
    (412, "gates", "(N, C, 1, 1)", ATTENTION),
    (620, "weighted", "(N, C, H, W)", INK),
))
d.save("eca.svg")
