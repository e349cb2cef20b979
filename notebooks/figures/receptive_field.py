"""Draws receptive_field.svg: how much of the image a value of each level of the U-Net can see."""

import numpy as np
from looks import CARD, FEATURES, FLOW, INK, LOW, SMALL, Drawing
from pictures import blur, scaled, shrink, slice_and_mask

# chapter 05: a 3 by 3 convolution adds two steps, a pooling one, and then the step doubles
fields, width, step = [], 1, 1
for level in range(5):
    if level:
        width, step = width + step, 2 * step
    width += 2 * 2 * step  # two convolutions
    fields.append(width)
assert fields == [5, 14, 32, 68, 140]

image, _ = slice_and_mask()
edges = scaled(np.hypot(*np.gradient(blur(image, 0.7))), 98)

d = Drawing(
    526,
    "Receptive fields of the five levels",
    "An MRI slice of 48 by 64 pixels and five nested squares around its middle: what one value "
    "of each level can see. At the top level the square is 5 pixels wide, a dot within the "
    "organ, then 14, 32, 68 and, at the bottom, 140. That of 68 leaves the slice above and "
    "below, that of 140 is far larger than the slice. Beside each square its level, with the "
    "value marked.",
)
ONE, LEFT, TOP = 3.36, 148, 180  # px of a pixel; upper left corner of the slice
ROWS = [72, 167, 262, 357, 452]
squares = []  # left, top, side
for k, field in enumerate(fields):
    # around the value next to the middle, as in the chapter
    x, y = ((n // 2**k // 2 + 0.5) * 2**k - field / 2 for n in (64, 48))
    squares.append((LEFT + x * ONE, TOP + y * ONE, field * ONE))
x, y, side = squares[-1]
d.box(x, y, side, side, LOW[FEATURES])  # what lies around the slice is padding
d.picture(LEFT, TOP, 64 * ONE, 48 * ONE, image)
for x, y, side in squares:
    corners = [(x, y), (x + side, y), (x + side, y + side), (x, y + side)]
    d.area(corners, "none", CARD, 4)  # so that it is seen on dark ground too
    d.area(corners, "none", INK, FLOW)

# the levels: a value and what it sees
for k, (y, (left, top, side)) in enumerate(zip(ROWS, squares)):
    size = {"w": 56 * 0.84**k, "h": 34 * 0.84**k, "lean": 24 * 0.84**k}
    values = scaled(shrink(blur(edges, 0.35 * 2**k), 48 // 2**k, 64 // 2**k), 100)
    x, half = 566 - (size["w"] + size["lean"]) / 2, size["h"] / 2
    sheet = d.sheet(x, y - half, values, steps=10, **size)
    rows, columns = values.shape
    place = sheet.at((columns // 2 + 0.5) / columns, (rows // 2 + 0.5) / rows)
    d.line([(left + side, min(max(place[1], top), top + side)), place])
    d.dot(*place)
    d.text(612, y - 11, f"{fields[k]} px", anchor="start", bold=True)
    d.text(612, y + 11, f"level {k}", SMALL, FEATURES, "start")
d.save("receptive_field.svg")
