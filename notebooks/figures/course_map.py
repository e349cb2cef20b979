"""Draws course_map.svg: the chapters 00 to 09. The small pictures are drawn, not measured."""

import numpy as np
from looks import ATTENTION, FEATURES, FLOW, INK, LINE, LOW, SMALL, TRUTH, Drawing, side
from pictures import channels, full_smear, shrink, skin, slice_and_mask, smear, xray
from scipy.stats import norm

d = Drawing(
    474,
    "The map of the course",
    "Chapters 00 to 04 are one path: a first model, with a chest X-ray; medical images, with an "
    "X-ray, an MRI slice, a skin lesion and a blood smear; attention theory, with features, "
    "weights and weighted features; channel attention, with a gate for each sheet; spatial "
    "attention, with one map. Then four tracks are side by side: 05, the plain U-Net, which leads "
    "to 06, the attention U-Net; 07, the SE-ResNet classifier, with a ROC curve; 08, the YOLO "
    "detector, with a grid on a smear; and 09, attention pooling, with a smear and its map, which "
    "is dark in one cell, where a platelet lies.",
)
SIDE, X, TOP = 96, [24 + 133 * i for i in range(5)], (52, 302)
TRACKS = X  # 05 to 09
IN = 24  # the encoder, from the left of a U
maps = channels(16)
film, parts = slice_and_mask()
blood, boxes = smear()
lesion = shrink(1 - skin()[0], 20, 20)


def three_steps(x, y):
    weights = 1 / (1 + np.exp(-(16 * maps[0] - 6)))
    for i, (values, color) in enumerate(
        ((maps[2], FEATURES), (weights, ATTENTION), (maps[2] * weights, FEATURES))
    ):
        d.sheet(x + 4, y + 33 * i, values, color, w=56, h=30, lean=32)


def channel(x, y):
    for i, gate in enumerate((0.92, 0.15, 0.7, 0.3)):  # made by hand
        d.sheet(x, y + 2 + 25 * i, maps[(0, 3, 2, 4)[i]], w=32, h=17, lean=12)
        d.bar(x + 50, y + 10.5 + 25 * i, 46, gate, ATTENTION, 12, track=True)


def spatial(x, y):
    weights = 1 / (1 + np.exp(-(16 * maps[0] - 6)))
    d.stack(x, y + 46, maps[[2, 3]], 15, w=62, h=35, lean=34)
    d.sheet(x, y, weights, ATTENTION, w=62, h=35, lean=34)
    d.arrow([(x + 48, y + 17), (x + 48, y + 58)], ATTENTION)


def u(x, y, gates):
    """Three levels: down, up, and the skips between them, with gates or without. Returns where
    an arrow from the left enters."""
    organ = (parts > 0).astype(float)
    size = [{"w": 20 * f, "h": 15 * f, "lean": 10 * f} for f in (1, 0.8, 0.62)]
    rows = [y + 10, y + 48, y + 83]

    def level(middle, k, values):
        s = size[k]
        corner = middle - (s["w"] + s["lean"]) / 2, rows[k] - (s["h"] + 5 * (k + 1)) / 2
        return d.stack(*corner, [values, *[np.zeros((1, 1))] * (k + 1)], 5, **s)

    start = len(d.parts)
    encoder = [level(x + IN, k, shrink(film, 24 // 2**k, 32 // 2**k)) for k in (0, 1)]
    decoder = [level(x + 79, k, shrink(organ, 24 // 2**k, 32 // 2**k)) for k in (0, 1)]
    bottom = level(x + 52, 2, shrink(organ, 6, 8))
    stacks, d.parts = d.parts[start:], d.parts[:start]
    d.line([(x + IN, rows[0]), (x + IN, rows[2] - 10)], INK, FLOW)
    d.arrow([(x + IN, rows[0]), (x + IN, rows[2]), side(bottom, rows[2])])
    d.arrow([(x + 52, rows[2]), (x + 82, rows[2]), (x + 82, decoder[1][-1].bottom[1])])
    d.arrow([(x + 82, rows[1]), (x + 82, decoder[0][-1].bottom[1])])
    for k in (0, 1):
        d.arrow([(x + IN, rows[k]), side(decoder[k], rows[k])])
    d.parts += stacks
    if gates:
        for k in (0, 1):
            d.times(x + 48, rows[k], r=9)
    return side(encoder[1], rows[1])


def roc(x, y):
    false = np.concatenate([[0], norm.cdf(np.linspace(-3.4, 3.2, 40)), [1]])
    found = np.concatenate([[0], norm.cdf(np.linspace(-3.4, 3.2, 40) + 1.9), [1]])
    curve = [(x + SIDE * a, y + SIDE * (1 - b)) for a, b in zip(false, found, strict=True)]
    d.area([*curve, (x + SIDE, y + SIDE)], LOW[FEATURES])
    d.line([(x, y + SIDE), (x + SIDE, y)], LINE)
    d.line([(x, y), (x, y + SIDE), (x + SIDE, y + SIDE)], LINE)
    d.line(curve, FEATURES, FLOW)


def detector(x, y):
    square, scale = blood[:, 20:92], SIDE / 72
    d.picture(x, y, SIDE, SIDE, shrink(square, 36, 36))
    for i in range(1, 4):
        d.line([(x + 24 * i, y), (x + 24 * i, y + SIDE)], INK)
        d.line([(x, y + 24 * i), (x + SIDE, y + 24 * i)], INK)
    for kind, left, top, right, bottom in boxes:
        if kind == 1:
            corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
            corners = [(x + (a - 20) * scale, y + b * scale) for a, b in corners]
            d.area(corners, "none", TRUTH, FLOW)


def pooling(x, y):
    """A smear with one platelet, and the softmax of its darkest places, 5 by 8."""
    field = full_smear()[0][148:228, 30:158]
    scores = 30 * field.reshape(5, 16, 8, 16).max((1, 3))
    d.picture(x, y, SIDE, 60, 1 - shrink(field, 40, 64))
    shares = np.exp(scores) / np.exp(scores).sum()
    d.sheet(x, y + 65, shares, ATTENTION, w=64, h=31, lean=32)


# the path, and where it parts
middles = [TOP[0] + SIDE / 2, TOP[1] + SIDE / 2]
for left, right in zip(X, X[1:]):
    d.arrow([(left + SIDE, middles[0]), (right, middles[0])])
RAIL, END = 238, 676
for x in (TRACKS[0] + IN + 12, *(left + SIDE / 2 for left in TRACKS[2:])):
    start = [(X[4] + SIDE, middles[0]), (END, middles[0]), (END, RAIL)]
    d.arrow([*start, (x, RAIL), (x, TOP[1])])

d.picture(X[0], TOP[0], SIDE, SIDE, xray(1, True, 48))
tiles = xray(0, side=24), shrink(film[:, 4:52], 24, 24), lesion, shrink(blood[:, 22:94], 24, 24)
for i, tile in enumerate(tiles):
    d.picture(X[1] + 50 * (i % 2), TOP[0] + 50 * (i // 2), 46, 46, tile)
three_steps(X[2], TOP[0])
channel(X[3], TOP[0])
spatial(X[4], TOP[0])
u(TRACKS[0], TOP[1], False)
d.arrow([(TRACKS[0] + SIDE - 3, middles[1]), u(TRACKS[1], TOP[1], True)])
roc(TRACKS[2], TOP[1])
detector(TRACKS[3], TOP[1])
pooling(TRACKS[4], TOP[1])

words = ("first model", "medical images", "attention theory", "channel attention",
         "spatial attention", "plain U-Net", "attention U-Net", "SE-ResNet classifier",
         "YOLO detector", "attention pooling")
for n, (x, pair) in enumerate(zip((*X, *TRACKS), words, strict=True)):
    top = TOP[n > 4]
    d.text(x, top - 18, f"{n:02}", anchor="start", bold=True)
    for i, word in enumerate(pair.split()):
        d.text(x, top + SIDE + 21 + 22 * i, word, SMALL, anchor="start")
d.save("course_map.svg")
