"""Draws detector.svg: YOLO of course_utils/yolo.py, from an image to one prediction."""

import numpy as np
import torch
from looks import CARD, FEATURES, FLOW, INK, LINE, SMALL, Drawing, side
from pictures import blur, full_smear, scaled, shrink

from course_utils import yolo
from course_utils.tasks.bccd import cell_anchors

image, truth = full_smear()  # (240, 320), rows (class, x1, y1, x2, y2)
boxes = torch.tensor(truth[:, 1:]).float()
cells = yolo.grid(*image.shape, cell_anchors())
answers, owner = yolo.assign(boxes, cells, cell_anchors())
padded = np.pad(image, ((0, 16), (0, 0)), "edge")  # 256 rows: the last cell sticks out


def maps(k):
    """What the backbone found, and where the grid of that stride says that there is an object."""
    rows, columns = cells.shape[k]
    stride = yolo.STRIDES[k]
    edges = np.hypot(*np.gradient(blur(padded, 0.5 * stride)))[: rows * stride]
    found = scaled(shrink(edges, rows, columns), 99)
    here = answers[cells.stride[answers, 0] == stride]
    objects = np.zeros((rows, columns))
    for x, y in (cells.corner[here] / stride).int().tolist():
        objects[y, x] = 1
    near = shrink(padded[: rows * stride], rows, columns)
    return found, np.maximum(objects, 0.35 * near)


d = Drawing(
    496,
    "A detector, from the image to one prediction",
    "On the left a blood smear, 3 channels of 240 by 320, goes down through the backbone: "
    "features at strides 8, 16 and 32, with 30 by 40, 15 by 20 and 8 by 10 cells. In the middle "
    "a grid for each stride, and arrows that carry what the coarse ones know up to the fine "
    "ones. Dark cells hold an object: platelets in the fine grid, red cells in the middle one, "
    "the white cell in the coarse one. One cell is unfolded on the right: three anchors with "
    "eight numbers each, x, y, w, h, objectness, and three classes.",
)
NAMES = "x", "y", "w", "h", "objectness", "RBC", "WBC", "platelet"
DOWN, UP, ROWS = 204, 400, [186, 292, 386]
SIZES = [{"w": 100 * f, "h": 50 * f, "lean": 42 * f} for f in (0.72**k for k in range(3))]


def stack(x, k, top):
    blanks = [np.zeros((1, 1))] * (k + 1)
    y = ROWS[k] - (SIZES[k]["h"] + 7 * (k + 1)) / 2
    return d.stack(x - (SIZES[k]["w"] + SIZES[k]["lean"]) / 2, y, [top, *blanks], 7, **SIZES[k])


backbone = [stack(DOWN, k, maps(k)[0]) for k in range(3)]
grids = [stack(UP, k, maps(k)[1]) for k in range(3)]
stacks, d.parts = d.parts, []  # they will lie above the lines

# down the backbone, across to the grids, and from coarse to fine
d.arrow([(DOWN, 114), (DOWN, backbone[0][0].y)])
for k in range(3):
    d.arrow([(DOWN, ROWS[k]), side(grids[k], ROWS[k])])
    if k < 2:
        d.arrow([(DOWN, ROWS[k]), (DOWN, backbone[k + 1][0].y)])
        d.arrow([(UP, ROWS[k + 1]), (UP, grids[k][-1].bottom[1])])
d.parts += stacks

# one cell unfolded: the numbers of its other two anchors look out behind
right = boxes[owner][:, 2:].sum(1).where(cells.stride[answers, 0] == 16, 0)
row = int(right.argmax())  # the red cell on the right, below
numbers = yolo.encode(boxes[owner[row]][None], cells, answers[row : row + 1])[0].tolist()
numbers += [3.6, 3.2, -2.8, -3.4]  # logits, made by hand
x, y = (cells.corner[answers[row]] / 16).tolist()
corners = [grids[1][0].at((x + a) / 20, (y + b) / 15) for a, b in ((0, 0), (1, 0), (1, 1), (0, 1))]
LEFT, TOP, PITCH = 512, 128, 27  # of the numbers
HIGH = 8 * PITCH + 14
d.line([corners[1], (LEFT, TOP)])
d.line([corners[2], (LEFT, TOP + HIGH)])
d.area(corners, "none", INK, FLOW)
for shift in (12, 6, 0):
    d.box(LEFT + shift, TOP - shift, 152, HIGH, CARD, FEATURES)
zero, one = 630, 8  # px of a logit of 1
d.line([(zero, TOP + 7), (zero, TOP + HIGH - 7)], LINE)
for i, (name, number) in enumerate(zip(NAMES, numbers)):
    y = TOP + 7 + PITCH * (i + 0.5)
    d.text(LEFT + 10, y, name, SMALL, anchor="start")
    d.box(zero + min(number, 0) * one, y - 8, abs(number) * one, 16, FEATURES)

# data and words
d.picture(DOWN - 56, 30, 112, 84, 1 - shrink(image, 60, 80))
d.text(DOWN + 72, 72, "image", anchor="start")
d.text(24, 61, "3", anchor="start", bold=True)
d.text(44, 61, "channels", SMALL, anchor="start")
d.text(24, 83, "240 × 320", SMALL, FEATURES, "start")
for y, stride, (rows, columns) in zip(ROWS, yolo.STRIDES, cells.shape):
    d.text(24, y - 11, f"stride {stride}", anchor="start", bold=True)
    d.text(24, y + 11, f"{rows} × {columns}", SMALL, FEATURES, "start")
for x, word in ((DOWN, "backbone"), (UP, "grids"), (LEFT + 76, "one cell")):
    d.text(x, 446, word)
d.text(LEFT + 76, 470, "3 × (5 + K)", SMALL, FEATURES)
d.save("detector.svg")
