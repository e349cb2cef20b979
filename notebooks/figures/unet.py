"""Draws unet.svg: UNet(3, 3, width=16, levels=4) of chapter 05, without a gate."""

import numpy as np
from looks import FEATURES, SMALL, Drawing, side, slice_to_mask
from pictures import blur, scaled, shrink, slice_and_mask

image, parts = slice_and_mask()
organ = (parts > 0).astype(float)
edges = scaled(np.hypot(*np.gradient(blur(image, 0.7))), 98)


def maps(k):
    """At the sizes of level k: what the encoder found, the coarser level raised, both merged."""
    rows, columns = 48 // 2**k, 64 // 2**k
    found = scaled(shrink(blur(edges, 0.35 * 2**k), rows, columns))
    coarse = shrink(organ, rows // 2, columns // 2)
    raised = np.repeat(np.repeat(coarse, 2, 0), 2, 1)
    merged = shrink(blur(organ, 0.8), rows, columns) * (0.8 + 0.2 * found)
    return found, raised, merged


d = Drawing(
    604,
    "U-Net with four levels",
    "A U. On the left an MRI slice with its neighbours, 3 channels of 48 by 64, goes down "
    "through four levels: 16, 32, 64 and 128 channels of 48 by 64, 24 by 32, 12 by 16 and 6 by 8 "
    "places. On the way up each level is raised to twice its size and laid under the skip, the "
    "fine maps that come across from the left at the same level: 64 and 64, 32 and 32, 16 and 16 "
    "channels. A block merges them to half as many. At the top the mask comes out.",
)
LEFT, JOIN, RIGHT = 200, 420, 596
ROWS = [178, 316, 452, 552]
SIZES = [{"w": 100 * f, "h": 44 * f, "lean": 38 * f} for f in (0.8**k for k in range(4))]


def stack(x, y, k, top):
    """Two sheets for 16 channels and one more for each doubling."""
    blanks = [np.zeros((1, 1))] * (k + 1)
    y -= (SIZES[k]["h"] + 7 * (k + 1)) / 2
    x -= (SIZES[k]["w"] + SIZES[k]["lean"]) / 2
    return d.stack(x, y, [top, *blanks], 7, steps=12, **SIZES[k])


def gap(k):
    """Half the distance between the skip and what is raised, in the joined stack."""
    return (SIZES[k]["h"] + 7 * (k + 1)) / 2 + 2


HEIGHTS = [*(ROWS[k] - gap(k) for k in range(3)), ROWS[3]]  # of the encoder, as of its skips
encoder = [stack(LEFT, y, k, maps(k)[0]) for k, y in enumerate(HEIGHTS)]
raised = [stack(JOIN, ROWS[k] + gap(k), k, maps(k)[1]) for k in range(3)]
skips = [stack(JOIN, HEIGHTS[k], k, maps(k)[0]) for k in range(3)]
merged = [stack(RIGHT, ROWS[k], k, maps(k)[2]) for k in range(3)]
stacks, d.parts = d.parts, []  # they will lie above the lines

# down on the left, across, and up
d.arrow([(LEFT, 100), (LEFT, encoder[0][0].y)])
d.arrow([(RIGHT, merged[0][0].y), (RIGHT, 100)])
for k in range(3):
    d.arrow([(LEFT, HEIGHTS[k]), (LEFT, encoder[k + 1][0].y)])
    d.arrow([(LEFT, HEIGHTS[k]), side(skips[k], HEIGHTS[k])])
    edge = JOIN + (SIZES[k]["w"] + SIZES[k]["lean"]) / 2 + 3
    d.arrow([(edge, ROWS[k]), side(merged[k], ROWS[k])])
    below = raised[k][-1].bottom[1]
    if k < 2:
        d.arrow([(RIGHT, ROWS[k + 1]), (RIGHT, below + 24), (JOIN, below + 24), (JOIN, below)])
    else:
        d.arrow([(LEFT, ROWS[3]), (JOIN, ROWS[3]), (JOIN, below)])
d.parts += stacks

# data and words
slice_to_mask(d, LEFT, RIGHT, HEIGHTS, image, parts)
for k in range(3):
    d.text(JOIN - 74, ROWS[k] + gap(k), f"{16 * 2**k} + {16 * 2**k}", SMALL, FEATURES, "end")
d.text(306, HEIGHTS[0] - 15, "skip")
d.text(LEFT + 12, 214, "pool", anchor="start")
d.text(508, ROWS[0] - 17, "merge")
d.text(508, raised[0][-1].bottom[1] + 9, "raise")
d.save("unet.svg")
