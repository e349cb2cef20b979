"""Exercises of chapter 08: the parts of a detector, a term of its loss, its score, and two bugs."""

from typing import Any

import torch

from .engine import Inputs, Setup
from .trial import Trial, differentiated


def _four_numbers(rng: torch.Generator) -> Inputs:
    for n, stride in ((1, 8), (2, 32), (5, 16), (7, 8)):
        t = torch.randn(n, 4, generator=rng)
        if n == 7:
            t[0, :2] = torch.tensor([100.0, -100])  # whose exponential is infinite
            t[1:3, 2:] = torch.tensor([[4.4, 2.5], [-4.5, -2.5]])  # up to 81 times an anchor
        corner = torch.randint(0, 9, (n, 2), generator=rng).float() * stride
        yield t, corner, stride, 10 + 90 * torch.rand(n, 2, generator=rng)


def _random_boxes(n: int, rng: torch.Generator, size: float = 40.0) -> torch.Tensor:
    low = size * torch.rand(n, 2, generator=rng)
    return torch.cat([low, low + 8 + size / 2 * torch.rand(n, 2, generator=rng)], 1)


def _pairs_of_boxes(rng: torch.Generator) -> Inputs:
    for n, m, shift in ((1, 1, 0), (2, 3, 0), (6, 4, 0), (4, 9, -30)):
        a, b = _random_boxes(n, rng) + shift, _random_boxes(m, rng) + shift
        b[0] = torch.cat([a[0, :2] + 1, a[0, 2:] - 2])  # one inside the other
        if m > 1:  # apart along both axes, by much and by little
            b[1] = a[1] + 60
            b[2] = torch.cat([a[0, 2:] + 3, 2 * a[0, 2:] - a[0, :2] + 3])
        yield a, b
    # In shares of an image, as many in both sets; two that cross, without a corner in the other.
    a, b = _random_boxes(4, rng) / 60, _random_boxes(4, rng) / 60
    a[0], b[0] = torch.tensor([[0.0, 0.4, 1, 0.6], [0.4, 0, 0.6, 1]])
    yield a, b


def _boxes_and_anchors(rng: torch.Generator) -> Inputs:
    sides = (12, 26, 30, 14, 24, 24, 60, 34, 36, 62, 52, 52, 120, 70, 70, 130, 110, 115)
    base = torch.tensor(sides).float().view(9, 2)
    for n in (1, 5, 9, 16):
        anchors = base * (0.9 + 0.2 * torch.rand(9, 2, generator=rng))
        anchors = anchors[anchors.prod(1).argsort()]
        size = base[torch.arange(n) * 5 % 9] * (0.75 + 0.5 * torch.rand(n, 2, generator=rng))
        if n > 1:  # as wide as one anchor and as high as another: distance and area mislead
            size[1:4] = torch.tensor([[200.0, 30], [16, 90], [300, 240]])
        low = 20 + 200 * torch.rand(n, 2, generator=rng)
        yield torch.cat([low, low + size], 1), anchors
    # Centres on borders between cells, and on the edges of the image.
    steps = torch.arange(9.0)
    centre = torch.stack([steps, steps.flip(0)], 1) * 8 * 2 ** (steps // 3)[:, None]
    yield torch.cat([centre - base / 2, centre + base / 2], 1), base
    # The ratio of the sides prefers another anchor; whole pixels move a centre across a border; it
    # matters how the distance in pixels is measured.
    anchors = torch.cat([torch.tensor([[13.0, 13], [10, 20], [5, 50]]), base[3:]])
    yield torch.tensor([[100.0, 60, 120, 80], [3.5, 3.5, 12.5, 12.5], [20, 20, 100, 70]]), anchors


def _raw_rows(rng: torch.Generator) -> Inputs:
    sizes = ((1, 2, 2), (5, 4, 2), (3, 3, 2), (6, 1, 2), (8, 3, 100))  # the last: large logits
    return [(scale * torch.randn(n, 5 + k, generator=rng),) for n, k, scale in sizes]


def _predictions_of_an_image(rng: torch.Generator) -> Inputs:
    for n, more in ((1, 0), (8, 0), (12, 1), (25, 2), (60, 5)):
        overlap = 0.65 * torch.rand(n, generator=rng)
        # Two answers; of the others one overlaps well, one exactly so much, one somewhat less.
        overlap[:6] = torch.tensor([0.83, 0.4, 0.9, 0.7, 0.6, 0])[:n]
        answers = torch.arange(n) < 2
        answers[6 : 6 + more] = True
        logits = 2 * torch.randn(n, generator=rng) - 1
        if n > 12:  # wrong and very confident: an answer, and one that counts as empty
            logits[0], logits[5] = (-60, 60) if n < 60 else (-100, 100)
        order = torch.randperm(n, generator=rng)
        yield logits[order], answers[order], overlap[order]


def _crowds(rng: torch.Generator) -> Inputs:
    # A row of three: the middle one overlaps both others, and they do not overlap each other.
    chain = torch.tensor([[0.0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10]])
    # IoU exactly 0.5 of the first two; the third is a duplicate of the first.
    exact = torch.tensor([[40.0, 0, 50, 10], [40, 0, 50, 5], [40, 1, 50, 10]])
    yield chain[:1], torch.tensor([0.3]), 0.5
    for n, overlap in ((0, 0.5), (6, 0.5), (54, 0.5), (3, 0.2), (8, 0.0), (7, 0.3)):
        around = _random_boxes(n, rng, 30.0) + torch.tensor([0.0, 40, 0, 40])
        boxes = torch.cat([chain, exact, around])
        values = 1.2 * torch.rand(len(boxes), generator=rng)
        values[:6] = torch.tensor([0.6, 0.5, 0.4, 0.9, 0.7, 0.3])
        order = torch.randperm(len(boxes), generator=rng)
        yield boxes[order], values[order], overlap
    # Duplicates that follow each other by score: who removes them from a list while walking along
    # it leaves out every second one.
    row = torch.tensor([[0, 0, 10 + i / 2, 10] for i in range(5)])
    yield row, torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5]), 0.5


def _rankings(rng: torch.Generator) -> Inputs:
    yield torch.tensor([True]), 2
    for n, more in ((4, 1), (9, 0), (15, 4), (60, 3)):
        hits = torch.rand(n, generator=rng) < torch.linspace(0.9, 0.3, n)
        hits[[0, 1, 2, -1]] = torch.tensor([n % 2 == 0, False, True, n % 2 == 1])
        yield hits, int(hits.sum()) + more
    yield torch.ones(6, dtype=torch.bool), 6
    yield torch.zeros(5, dtype=torch.bool), 3


def _run_flip(answer: Trial, images: torch.Tensor, boxes: torch.Tensor) -> Any:
    """Calls an answer; the other numbers of rows without a box do not count."""
    match found := answer(images, boxes):
        case flipped, torch.Tensor() as rows if rows.shape == boxes.shape:
            return flipped, torch.where(rows[:, :, :1] == -1, -1.0, rows)
    return found


def _images_and_boxes(rng: torch.Generator) -> Inputs:
    empty = torch.tensor([-1.0, 0, 0, 0, 0])
    for n, h, w, room in ((1, 4, 8, 1), (2, 6, 10, 3), (3, 12, 9, 2), (2, 5, 16, 4), (2, 5, 14, 5)):
        low = torch.rand(n, room, 2, generator=rng) * torch.tensor([w / 2, h / 2])
        high = low + 1 + torch.rand(n, room, 2, generator=rng) * torch.tensor([w / 4, h / 4])
        kinds = torch.randint(0, 3, (n, room, 1), generator=rng).float()
        boxes = torch.cat([kinds, low, high], 2)
        if room > 1:
            boxes[0, 0, 1:3] = 0  # in the corner
            boxes[-1, -1] = empty
        if room > 4:
            boxes[:, -1] = empty  # each image has a row without a box
            boxes[1] = empty  # and one has nothing else
        yield torch.rand(n, 3, h, w, generator=rng), boxes


EXERCISES = {
    "yolo.decode": Setup(_four_numbers),
    "yolo.answering": Setup(_boxes_and_anchors),
    "yolo.objectness_term": Setup(_predictions_of_an_image, call=differentiated),
    "yolo.nms": Setup(_crowds),
    "yolo.average_precision": Setup(_rankings),
    "yolo.predictions": Setup(),
    "yolo.box_iou": Setup(_pairs_of_boxes),
    "yolo.scores": Setup(_raw_rows),
    "yolo.flip": Setup(_images_and_boxes, call=_run_flip),
}
