"""Draws query_key_value.svg: one query among six keys. Scores, shares and answer are computed."""

import numpy as np
from looks import ATTENTION, EDGE, FEATURES, INK, LINE, LOW, SMALL, Drawing, mix
from pictures import channels, skin

CELLS, ASKS = 20, 2  # ASKS: the pixel whose query is followed
PLACES = [(3, 14), (8, 8), (11, 8), (11, 15), (13, 9), (16, 15)]  # row, column
maps = channels(CELLS)
pixels = np.stack([maps[:, i, j] for i, j in PLACES])  # (S, C), the keys and values of six pixels
keys = 3 * pixels[:, :4] - 0.8  # (S, d); the layers are made by hand
values = pixels[:, [0, 2, 5]]  # (S, e)
query = keys[ASKS]  # (d,)
scores = keys @ query / 4**0.5  # (S,)
shares = np.exp(scores) / np.exp(scores).sum()  # (S,)
answer = shares @ values  # (e,)

d = Drawing(
    582,
    "Query, key and value",
    "Six pixels of a skin photograph in a row: skin, the edge of a lesion, the lesion, a hair, the "
    "lesion again, skin. The third asks. Its query, an orange column of four cells, is next to the "
    "key of each pixel. Below are the scores, "
    + ", ".join(f"{s:.1f}" for s in scores)
    + ", and their softmax, the shares "
    + ", ".join(f"{s:.2f}" for s in shares)
    + ". Each pixel's value, a column of three cells, is multiplied by its share. The sum is the "
    "answer: nearly the value of the lesion.",
)
X = [198 + 76 * s for s in range(len(PLACES))]
SIDE, END = 16, 648
PIXELS, KEYS, ZERO, BASE, VALUES, TIMES, WEIGHTED, RAIL = 28, 96, 232, 342, 362, 436, 460, 546
ONE = 72  # px of a share of 1


def strip(x, y, vector, color=FEATURES, shown=1.0):
    """A vector as a column of cells, x its middle and y its top."""
    for i, value in enumerate(vector):
        fill = mix(LOW[color], color, float(np.clip(value, 0, 1)))
        d.box(x - SIDE / 2, y + SIDE * i, SIDE, SIDE, fill)
    outline = mix(EDGE, color, shown)
    d.box(x - SIDE / 2, y, SIDE, SIDE * len(vector), "none", outline)


# one query next to each key
for x, (i, j) in zip(X, PLACES, strict=True):
    i, j = (min(max(4 * place - 5, 0), 65) for place in (i, j))
    d.picture(x - 22, PIXELS, 44, 44, 1 - skin()[0][i : i + 15, j : j + 15], steps=16)
d.area([(X[ASKS] + a, PIXELS + 22 + b) for a, b in ((-22, -22), (22, -22), (22, 22), (-22, 22))],
       "none", ATTENTION, 3)
d.arrow([(X[ASKS] - SIDE / 2 - 1, PIXELS + 44), (X[ASKS] - SIDE / 2 - 1, KEYS)], ATTENTION)
for x, key in zip(X, keys, strict=True):
    strip(x - SIDE / 2 - 1, KEYS, (query + 0.8) / 3, ATTENTION)
    strip(x + SIDE / 2 + 1, KEYS, (key + 0.8) / 3)

# scores and shares
d.line([(X[0] - 30, ZERO), (X[-1] + 30, ZERO)])
for level in (0, 1):
    d.line([(X[0] - 30, BASE - ONE * level), (X[-1] + 30, BASE - ONE * level)], LINE)
    d.text(X[-1] + 42, BASE - ONE * level, str(level), SMALL, FEATURES)
for x, score, share in zip(X, scores, shares, strict=True):
    d.box(x - 22, ZERO - max(score, 0) * 14, 44, abs(score) * 14, FEATURES)
    word = f"{score:.1f}".replace("-", "−")
    d.text(x, ZERO - max(score, 0) * 14 - 12, word, SMALL)
    d.bar(x, BASE, ONE, share, ATTENTION, 44, up=True)
    d.text(x, BASE - ONE * share - 12, f"{share:.2f}", SMALL)

# values times shares, and their sum
for x, value, share in zip(X, values, shares, strict=True):
    d.arrow([(x + 18, BASE), (x + 18, TIMES), (x + 10, TIMES)], ATTENTION, head=False)
    d.arrow([(x, VALUES + 48), (x, WEIGHTED)])
    strip(x, VALUES, value)
    d.times(x, TIMES, r=10)
    strip(x, WEIGHTED, value * share, shown=share)
    d.arrow([(x, WEIGHTED + 48), (x, RAIL), (END - 12, RAIL)])
d.arrow([(END, RAIL - 12), (END, WEIGHTED + 48)])
d.plus(END, RAIL)
strip(END, WEIGHTED, answer)

for y, word, under, color in (
    (PIXELS + 22, "pixels", "", INK),
    (KEYS + 20, "query, keys", "(d,), (S, d)", INK),
    (ZERO - 24, "scores", "(S,)", INK),
    (BASE - 46, "shares", "(S,)", ATTENTION),
    (VALUES + 14, "values", "(S, e)", INK),
    (WEIGHTED + 14, "weighted", "(S, e)", INK),
):
    d.text(24, y, word, color=color, anchor="start")
    if under:
        d.text(24, y + 24, under, SMALL, FEATURES, "start")
d.text(END, WEIGHTED - 44, "answer")
d.text(END, WEIGHTED - 20, "(e,)", SMALL, FEATURES)
d.save("query_key_value.svg")
