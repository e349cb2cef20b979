"""Draws anchors.svg: one cell, its three anchors, and how four numbers make a box."""

import torch
from looks import CARD, EDGE, FEATURES, FLOW, INK, LABEL, LINE, THIN, Drawing, mix
from pictures import full_smear

from course_utils import yolo
from course_utils.tasks.bccd import cell_anchors

image, truth = full_smear()
cells = yolo.grid(*image.shape, cell_anchors())
box = torch.tensor(truth[-1, 1:]).float()  # of a platelet
row = yolo.assign(box[None], cells, cell_anchors())[0]
numbers = yolo.encode(box[None], cells, row)[0]  # t_x, t_y, t_w, t_h
assert torch.allclose(yolo.decode(numbers, yolo.Grid(*(c[row] for c in cells[:3]), (), ()))[0], box)
made = torch.cat([torch.sigmoid(numbers[:2]), torch.exp(numbers[2:])]).tolist()
corner, stride = cells.corner[row][0].tolist(), int(cells.stride[row])

PALE = mix(EDGE, LINE, 0.4)

d = Drawing(
    322,
    "From an anchor to a box",
    "Two pictures of the same part of a blood smear, with the grid of stride 8. Left: one cell "
    "and around its middle three anchors, 19 by 18, 29 by 27 and 43 by 43 pixels. Between them "
    "four numbers. The sigmoid makes 0.750 of 1.099 and 0.500 of 0: the place of the centre within "
    "the cell. The exponential makes 0.737 of −0.305 and 0.778 of −0.251: width and height, as "
    "shares of the smallest anchor's. Right: the box that follows, tight around a platelet.",
)
SIDE, ONE, TOP = 56, 3.8, 34  # the part that is shown, in pixels; px of a pixel
HIGH = SIDE * ONE
LEFT, RIGHT = 24, 676 - HIGH
x0, y0 = int(corner[0]) - 24, int(corner[1]) - 24
part = 1 - image[y0 : y0 + SIDE, x0 : x0 + SIDE]


def outline(left, x1, y1, x2, y2, color, width):
    """A box in pixels of the image, in the picture that begins at `left`."""
    x1, x2, y1, y2 = x1 - x0, x2 - x0, y1 - y0, y2 - y0
    places = (left + x * ONE for x in (x1, x2, x2, x1)), (TOP + y * ONE for y in (y1, y1, y2, y2))
    d.area(list(zip(*places)), "none", color, width)


def around(left, x, y, w, h, color, width):
    outline(left, x - w / 2, y - h / 2, x + w / 2, y + h / 2, color, width)


# twice the same part, with its cells; on the left the anchors, on the right the box
middle = corner[0] + stride / 2, corner[1] + stride / 2
sizes = cell_anchors()[:3].tolist()
for left in (LEFT, RIGHT):
    d.picture(left, TOP, HIGH, HIGH, part, steps=14)
    for k in range(1, SIDE // stride):
        a = k * stride * ONE
        d.line([(left + a, TOP), (left + a, TOP + HIGH)], PALE)
        d.line([(left, TOP + a), (left + HIGH, TOP + a)], PALE)
    for color, width in ((CARD, 3), (INK, THIN)):  # seen on dark ground too
        outline(left, *corner, corner[0] + stride, corner[1] + stride, color, width)
for size in sizes:
    around(LEFT, *middle, *size, FEATURES, FLOW)
around(RIGHT, *middle, *sizes[0], FEATURES, THIN)
outline(RIGHT, *box.tolist(), INK, FLOW)
for left, (x, y) in ((LEFT, middle), (RIGHT, ((box[:2] + box[2:]) / 2).tolist())):
    for r, color in ((6, CARD), (4, INK)):
        d.dot(left + (x - x0) * ONE, TOP + (y - y0) * ONE, r, color)

# four numbers, and what is made of them
HEADS = {0: ("sigmoid", "place in the cell"), 2: ("exp", "times the anchor")}
for i, (name, number, after) in enumerate(zip("xywh", numbers.tolist(), made)):
    y = 96 + 28 * i + (i > 1) * 66
    if i in HEADS:
        d.row(y - 56, ((350, *HEADS[i], INK),), head=True)
    d.add("text", f't<tspan dy="4" font-size="15">{name}</tspan>', x=260, y=y + 6.7,
          font_size=LABEL, fill=INK)
    d.text(346, y, f"{number:.3f}".replace("-", "−"), anchor="end", color=FEATURES)
    d.arrow([(354, y), (386, y)])
    d.text(394, y, f"{after:.3f}", anchor="start")
w, h = (box[2:] - box[:2]).int().tolist()
d.row(TOP + HIGH + 26, (
    (LEFT + HIGH / 2, "three anchors", f"stride {stride}", INK),
    (RIGHT + HIGH / 2, "box", f"{w} × {h}", INK),
))
d.save("anchors.svg")
