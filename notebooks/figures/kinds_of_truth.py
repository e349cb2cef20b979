"""Draws kinds_of_truth.svg: what is known of an image, in three tasks. All images are drawn."""

from looks import CARD, INK, LABEL, LOW, THIN, TRUTH, Drawing
from pictures import slice_and_mask, smear, xray

d = Drawing(
    500,
    "Three kinds of truth",
    "Three columns, an image above and its truth in blue below. Classify: a chest X-ray, and below "
    "it a single square with the number 1. Segment: an MRI slice, and below it a mask of the same "
    "size with two parts in two blues. Detect: a blood smear, and below it a rectangle around each "
    "cell, thick around the white one. The shapes are (N,), (N, D, H, W) and (N, 30, 5).",
)
W, H, TOP, BELOW = 196, 147, 88, 265
X = (24, 252, 480)
MIDDLES = [x + W / 2 for x in X]
film, parts = slice_and_mask()
blood, boxes = smear()

d.picture(MIDDLES[0] - H / 2, TOP, H, H, xray(1, True, 56))
d.picture(X[1], TOP, W, H, film)
d.picture(X[2], TOP, W, H, blood)
for middle in MIDDLES:
    d.arrow([(middle, TOP + H), (middle, BELOW)])

d.box(MIDDLES[0] - 22, BELOW, 44, 44, TRUTH)
d.text(MIDDLES[0], BELOW + 22, "1", LABEL, CARD, bold=True)
d.picture(X[1], BELOW, W, H, parts * 0.5, LOW[TRUTH], TRUTH)
d.box(X[2], BELOW, W, H, LOW[TRUTH], INK)
scale = W / blood.shape[1]
for kind, left, top, right, bottom in boxes:
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    corners = [(X[2] + a * scale, BELOW + b * scale) for a, b in corners]
    d.area(corners, "none", TRUTH, 3 if kind == 1 else THIN)

d.row(34, (
    (MIDDLES[0], "classify", "the image", INK),
    (MIDDLES[1], "segment", "each pixel", INK),
    (MIDDLES[2], "detect", "each cell", INK),
), head=True)
d.row(446, (
    (MIDDLES[0], "label", "(N,)", TRUTH),
    (MIDDLES[1], "mask", "(N, D, H, W)", TRUTH),
    (MIDDLES[2], "boxes", "(N, 30, 5)", TRUTH),
))
d.save("kinds_of_truth.svg")
