"""Draws poolings.svg: what three ways to pool keep of the same sixteen numbers. All computed."""

import numpy as np
from looks import ATTENTION, FEATURES, LINE, LOW, SMALL, Drawing

values = np.array([0, 1, 0, 1, 1, 2, 6, 2, 0, 2, 8, 3, 1, 0, 3, 2])  # (n,), as in the chapters
softmax = np.exp(values) / np.exp(values).sum()  # the numbers are their own scores
POOLS = {
    "mean": np.full(16, 1 / 16),
    "maximum": (values == values.max()).astype(float),
    "attention": softmax,
}
pooled = [float(shares @ values) for shares in POOLS.values()]
assert pooled[:2] == [values.mean(), values.max()]

d = Drawing(
    560,
    "Three ways to pool",
    f"The same bag of sixteen numbers in three rows: {', '.join(map(str, values))}. In each row "
    "they are pale bars, filled as far as the pooling keeps them; below stand the shares, orange "
    "bars between 0 and 1. Mean: the shares are 1/16 each, so a sixteenth of each number is "
    f"kept, and the result is {pooled[0]:.0f}. Maximum: a single share of 1, at the 8; the result "
    f"is {pooled[1]:.0f}. Attention, the softmax of the numbers themselves: shares of "
    f"{softmax[10]:.2f} at the 8 and {softmax[6]:.2f} at the 6, hardly any elsewhere; the result "
    f"is {pooled[2]:.2f}.",
)
LEFT, PITCH, BAR, END = 136, 27, 19, 652
UNIT, ONE = 8, 44  # px of a value of 1, of a share of 1
X = [LEFT + PITCH * (k + 0.5) for k in range(16)]
RIGHT = LEFT + PITCH * 16

d.text(24, 34, "bag", bold=True, anchor="start")
for x, value in zip(X, values, strict=True):
    d.text(x, 34, str(value), SMALL)
for row, ((name, shares), result) in enumerate(zip(POOLS.items(), pooled, strict=True)):
    base = 128 + 168 * row
    zero = base + 24 + ONE
    for x, value, share in zip(X, values, shares, strict=True):
        if value:
            d.box(x - BAR / 2, base - UNIT * value, BAR, UNIT * value, LOW[FEATURES], LINE)
            d.bar(x, base, UNIT * value, share, thick=BAR, up=True)
        d.bar(x, zero, ONE, share, ATTENTION, BAR, up=True)
    for level in (0, 1):
        d.line([(LEFT, zero - ONE * level), (RIGHT, zero - ONE * level)], LINE)
        d.text(LEFT - 10, zero - ONE * level, str(level), SMALL, FEATURES)
    d.line([(LEFT, base), (RIGHT, base)])
    d.text(24, base - 32, name, bold=True, anchor="start")
    d.text(24, zero - ONE / 2, "shares", color=ATTENTION, anchor="start")
    if name == "attention":
        d.text(24, base - 8, "softmax", SMALL, anchor="start")
    if name == "mean":
        d.text((LEFT + RIGHT) / 2, zero - ONE / 16 - 14, "1/16 each", SMALL)
    for x, share in zip(X, shares, strict=True):
        if share > 0.1:
            y = zero - max(ONE * share / 2, 16)
            d.text(x + 16, y, f"{share:.2g}", SMALL, anchor="start")

    # the sum, in the same unit
    d.arrow([(RIGHT + 4, base - 8), (594, base - 8)])
    d.arrow([(618, base - 8), (END - BAR / 2, base - 8)])
    d.plus(606, base - 8)
    d.line([(END - 20, base), (END + 20, base)])
    d.bar(END, base, UNIT, result, thick=BAR, up=True)
    d.text(END, base - UNIT * result - 12, f"{result:.3g}", SMALL)
d.save("poolings.svg")
