"""Draws arms.svg from results/first_model.jsonl: test AUROC of chapter 00, five seeds an arm."""

from math import ceil, floor

from looks import ATTENTION, CARD, FEATURES, FLOW, INK, LINE, SMALL, Drawing

from course_utils import ledger

ARMS = "control", "attention"
scores = [list(ledger.values("first_model", arm, "auroc").values()) for arm in ARMS]
gains = ledger.paired("first_model", "attention", "control", "auroc")
mean, half = ledger.mean_interval(gains)
assert mean - half < 0 < mean + half, "the drawing says that the interval includes 0"


def signed(value, digits=3):
    return f"{value:+.{digits}f}".replace("-", "−")


d = Drawing(
    462,
    "Two arms, five seeds, one difference",
    "On the left the test AUROC of five seeds without attention, slate circles, and of the same "
    f"five with attention, orange diamonds, between {min(map(min, scores)):.3f} and "
    f"{max(map(max, scores)):.3f}. A line joins the two runs of a seed: {sum(g < 0 for g in gains)}"
    f" of {len(gains)} fall. On the right, in the same unit, the five differences, attention minus "
    f"control, as dots, and their mean of {mean:.4f} with its 95% interval from {mean - half:.4f} "
    f"to {mean + half:.4f}. The interval includes 0.",
)
TOP, BOTTOM = 100, 372
COLUMNS, DOTS, INTERVAL = (134, 310), 486, 588
lowest, highest = min(map(min, scores)), max(map(max, scores))
low, high = min(*gains, mean - half), max(*gains, mean + half)
UNIT = (BOTTOM - TOP) / max(highest - lowest, high - low)  # px of an AUROC of 1, on both sides
MIDDLE = (TOP + BOTTOM) / 2


def height(auroc):
    return MIDDLE - UNIT * (auroc - (lowest + highest) / 2)


def shift(gain):
    return MIDDLE - UNIT * (gain - (low + high) / 2)


def ticks(start, end):
    return [n / 200 for n in range(ceil(200 * start), floor(200 * end) + 1)]


def diamond(x, y, a, color):
    d.area([(x - a, y), (x, y - a), (x + a, y), (x, y + a)], color)


# the arms, and a line for each seed
for tick in ticks(lowest, highest):
    d.text(74, height(tick), f"{tick:.3f}", SMALL, FEATURES, "end")
    d.line([(84, height(tick)), (360, height(tick))], LINE)
for control, attention in zip(*scores, strict=True):
    d.line([(COLUMNS[0], height(control)), (COLUMNS[1], height(attention))], INK)
for control, attention in zip(*scores, strict=True):
    d.dot(COLUMNS[0], height(control), 8.5, CARD)
    d.dot(COLUMNS[0], height(control), 7, FEATURES)
    diamond(COLUMNS[1], height(attention), 10.5, CARD)
    diamond(COLUMNS[1], height(attention), 8.5, ATTENTION)

# their differences, in the same unit
for tick in ticks(low - 0.002, high + 0.002):
    color = LINE if tick else INK
    d.line([(450, shift(tick)), (676, shift(tick))], color)
    d.text(440, shift(tick), signed(tick) if tick else "0", SMALL, FEATURES if tick else INK, "end")
placed = []
for gain in sorted(gains):
    x = DOTS + 13 * sum(abs(shift(gain) - shift(other)) < 13 for other in placed)
    placed.append(gain)
    d.dot(x, shift(gain), 5, INK)
d.line([(INTERVAL, shift(mean - half)), (INTERVAL, shift(mean + half))], INK, FLOW)
for end in (mean - half, mean + half):
    d.line([(INTERVAL - 7, shift(end)), (INTERVAL + 7, shift(end))], INK, FLOW)
d.dot(INTERVAL, shift(mean), 7, INK)

d.row(34, (
    (222, "score", "AUROC, five seeds", INK),
    (558, "difference", "seed by seed", INK),
), head=True)
for x, word, under, color in (
    (COLUMNS[0], "control", f"mean {sum(scores[0]) / 5:.4f}", FEATURES),
    (COLUMNS[1], "attention", f"mean {sum(scores[1]) / 5:.4f}", ATTENTION),
    (INTERVAL - 30, "mean, interval", f"{signed(mean, 4)} ± {half:.4f}", INK),
):
    d.text(x, 408, word, color=color)
    d.text(x, 432, under, SMALL, FEATURES)
d.save("arms.svg")
