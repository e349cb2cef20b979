"""Chapter 05: right answers written differently pass, half-right ones are caught, facts hold."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from einops import rearrange, reduce
from monai.losses import DiceLoss  # here: the import may take longer than an answer may
from torch import nn
from torch.nn import functional as F

from course_utils import ledger, metrics, tasks
from course_utils.exercises import exercise, unet
from course_utils.exercises.sandbox import preserved_state
from course_utils.unet import DoubleConv, UNet


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "progress.json"))


# Right answers written differently ---------------------------------------------------------------


def stamps_by_torch(x, kernel, stride):
    return F.conv_transpose2d(x[None, None], kernel[None, None], stride=stride)[0, 0]


def stamps_by_layer(x, kernel, stride):
    layer = nn.ConvTranspose2d(1, 1, tuple(kernel.shape), stride, bias=False)
    layer.weight.data = kernel[None, None]
    return layer(x[None, None]).squeeze(0).squeeze(0).detach()


def stamps_by_convolution(x, kernel, stride):
    """Zeros between the pixels, then a convolution with the flipped kernel."""
    (h, w), (a, b) = x.shape, kernel.shape
    spread = torch.zeros((h - 1) * stride + 1, (w - 1) * stride + 1)
    spread[::stride, ::stride] = x
    padded = F.pad(spread, (b - 1, b - 1, a - 1, a - 1))
    return F.conv2d(padded[None, None], kernel.flip(0, 1)[None, None])[0, 0]


def stamps_by_place_in_the_kernel(x, kernel, stride):
    (h, w), (a, b) = x.shape, kernel.shape
    out = x.new_zeros((h - 1) * stride + a, (w - 1) * stride + b)
    for i in range(a):
        for j in range(b):
            out[i : i + h * stride : stride, j : j + w * stride : stride][:h, :w] += (
                kernel[i, j] * x
            )
    return out


def stamps_by_fold(x, kernel, stride):
    (h, w), (a, b) = x.shape, kernel.shape
    columns = kernel.reshape(-1, 1) @ x.reshape(1, -1)
    size = (h - 1) * stride + a, (w - 1) * stride + b
    return F.fold(columns[None], size, (a, b), stride=stride)[0, 0]


class StampModule(nn.Module):
    def forward(self, x, kernel, stride):
        return stamps_by_torch(x, kernel, stride)


class EncoderOfBlocks(nn.Module):
    def __init__(self, channels, width):
        super().__init__()
        widths = [channels, width, 2 * width, 4 * width]
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU()) for a, b in pairwise(widths)
        )

    def forward(self, x):
        skips = []
        for i, block in enumerate(self.blocks):
            x = block(F.max_pool2d(x, 2) if i else x)
            skips.append(x)
        return skips


class EncoderWalkingASequential(nn.Module):
    """The layers may well stand in an nn.Sequential, if one walks through it."""

    def __init__(self, channels, width):
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
            *(nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
            *(nn.Conv2d(2 * width, 4 * width, 3, padding=1), nn.ReLU(inplace=True)),
        )

    def forward(self, x):
        found = []
        for layer in self.layers:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                found.append(x)
        return tuple(found)


class EncoderWithHooksOfSlices(nn.Module):
    def __init__(self, channels, width):
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(channels, width, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2, 2)),
            *(nn.Conv2d(width, width * 2, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2, 2)),
            *(nn.Conv2d(width * 2, width * 4, 3, 1, 1), nn.ReLU()),
        )

    def forward(self, x):
        a = self.layers[:2](x)
        b = self.layers[2:5](a)
        return [a, b, self.layers[5:](b)]


def encoder_factory(channels, width):
    return EncoderOfBlocks(channels, width)


def decoder_by_index(x, skip, up, merge):
    raised = up(x)
    h, w = skip.shape[-2:]
    rows = torch.arange(h).clamp(max=raised.shape[2] - 1)
    columns = torch.arange(w).clamp(max=raised.shape[3] - 1)
    return merge(torch.concat((skip, raised[:, :, rows][..., columns]), dim=-3))


def decoder_by_repeating(x, skip, up, merge):
    x = up(x)
    if x.size(2) < skip.size(2):
        x = torch.cat([x, x[:, :, -1:]], 2)
    if x.size(3) < skip.size(3):
        x = torch.cat([x, x[..., -1:]], 3)
    both = torch.empty(len(x), 2 * x.shape[1], *x.shape[2:])
    both[:, : x.shape[1]], both[:, x.shape[1] :] = skip, x
    return merge(both)


class DecoderModule(nn.Module):
    def forward(self, x, skip, up, merge):
        x = up(x)
        right, down = skip.size(3) - x.size(3), skip.size(2) - x.size(2)
        return merge(torch.hstack([skip, nn.ReplicationPad2d((0, right, 0, down))(x)]))


def size_by_ceiling(model, x, multiple):
    h, w = x.shape[-2:]
    new = [math.ceil(n / multiple) * multiple for n in (h, w)]
    out = model(nn.ReplicationPad2d((0, new[1] - w, 0, new[0] - h))(x))
    return out[..., :h, :w]


def size_by_index(model, x, multiple):
    h, w = x.shape[2], x.shape[3]
    rows = torch.arange(-(-h // multiple) * multiple).clamp(max=h - 1)
    columns = torch.arange(-(-w // multiple) * multiple).clamp(max=w - 1)
    return model(x[:, :, rows][:, :, :, columns]).narrow(2, 0, h).narrow(3, 0, w)


def size_asked_first(model, x, multiple):
    if x.shape[2] % multiple == 0 and x.shape[3] % multiple == 0:
        return model(x)
    return size_by_ceiling(model, x, multiple)


def loss_einsum(logits, masks):
    p, t = torch.sigmoid(logits), masks.to(logits.dtype)
    both = torch.einsum("nhw,nhw->n", p, t)
    areas = torch.einsum("nhw->n", p) + torch.einsum("nhw->n", t)
    return 1 - torch.mean((2 * both + 1) / (areas + 1))


def loss_einops(logits, masks):
    p, t = 1 / (1 + torch.exp(-logits)), masks.float()
    both, found, there = (reduce(z, "n h w -> n", "sum") for z in (p * t, p, t))
    return 1 - reduce((2 * both + 1) / (found + there + 1), "n -> ", "mean")


def loss_by_loop(logits, masks):
    total = 0
    for z, t in zip(logits, masks, strict=True):
        p = z.sigmoid()
        total = total + 1 - (2 * p[t == 1].sum() + 1) / (p.sum() + (t == 1).sum() + 1)
    return total / len(logits)


def loss_by_monai(logits, masks):
    dice = DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)
    return dice(logits[:, None], masks[:, None].float())


class LossModule(nn.Module):
    def forward(self, logits, masks):
        p, t = logits.sigmoid(), masks.double()
        both = (p * t).sum((-1, -2))
        return (1 - (both + 0.5) / ((p.sum((1, 2)) + t.sum((1, 2)) + 1) / 2)).mean()


def volumes_by_places(prediction, truth, depths):
    ends = np.cumsum(depths)
    result = torch.empty(len(depths))
    for i, (end, depth) in enumerate(zip(ends, depths, strict=True)):
        p, t = prediction[end - depth : end], truth[end - depth : end]
        both, areas = (p & t).sum(), p.sum() + t.sum()
        result[i] = 1.0 if areas == 0 else 2 * both / areas
    return result


def volumes_by_index_add(prediction, truth, depths):
    number = torch.repeat_interleave(torch.arange(len(depths)), torch.tensor(depths))

    def per_volume(masks):
        counts = rearrange(masks, "s h w -> s (h w)").sum(1).double()
        return torch.zeros(len(depths)).double().index_add(0, number, counts)

    areas = per_volume(prediction) + per_volume(truth)
    both = per_volume(prediction & truth)
    return torch.where(areas > 0, 2 * both / areas.clamp(min=1), 1.0)


def volumes_by_the_course(prediction, truth, depths):
    pairs = zip(prediction.split(depths), truth.split(depths), strict=True)
    return torch.cat([metrics.dice(p[None], t[None]) for p, t in pairs])


RIGHT = {
    "unet.block_parameters": [
        (3456, 64),
        [3456.0, 64],
        torch.tensor([3456, 64]),
        np.array([3456, 64]),
    ],
    "unet.transposed_convolution": [
        stamps_by_torch,
        stamps_by_layer,
        stamps_by_convolution,
        stamps_by_place_in_the_kernel,
        stamps_by_fold,
        StampModule,
    ],
    "unet.Encoder": [
        EncoderOfBlocks,
        EncoderWalkingASequential,
        EncoderWithHooksOfSlices,
        encoder_factory,
    ],
    "unet.decoder_step": [decoder_by_index, decoder_by_repeating, DecoderModule],
    "unet.receptive_field": [46, 46.0, torch.tensor(46), np.int64(46)],
    "unet.at_any_size": [size_by_ceiling, size_by_index, size_asked_first],
    "unet.soft_dice_loss": [loss_einsum, loss_einops, loss_by_loop, loss_by_monai, LossModule],
    "unet.volume_dice": [volumes_by_places, volumes_by_index_add, volumes_by_the_course],
}


@pytest.mark.parametrize("name", [ex.name for ex in unet.EXERCISES])
def test_right_answers_written_differently_pass(name):
    for answer in RIGHT[name]:
        result = exercise(name).check(answer)
        assert result.passed, (answer, result.message)


# Half-right answers and combinations -------------------------------------------------------------


def test_the_stub_of_the_encoder_is_the_bug_that_is_named():
    class Encoder(nn.Module):
        def __init__(self, channels, width):
            super().__init__()
            self.layers = nn.Sequential(
                *(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
                *(nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
                *(nn.Conv2d(2 * width, 4 * width, 3, padding=1), nn.ReLU()),
            )

        def forward(self, x):
            return self.layers(x)

    assert exercise("unet.Encoder").check(Encoder).mistake == "only-the-coarsest"


def test_an_encoder_with_other_layers_is_not_right():
    class Normed(unet.Encoder):
        def __init__(self, channels, width):
            super().__init__(channels, width)
            self.first = nn.Sequential(self.first, nn.BatchNorm2d(width))

    class WithoutBias(unet.Encoder):
        def __init__(self, channels, width):
            super().__init__(channels, width)
            self.first = nn.Conv2d(channels, width, 3, padding=1, bias=False)

    class Strided(unet.Encoder):
        def forward(self, x):
            fine = self.first(x).relu()
            middle = self.second(fine[:, :, ::2, ::2]).relu()
            return [fine, middle, self.third(middle[:, :, ::2, ::2]).relu()]

    class Shared(unet.Encoder):
        def forward(self, x):
            with torch.no_grad():
                return super().forward(x)

    ex = exercise("unet.Encoder")
    assert ex.check(WithoutBias).mistake == "missing-bias"
    assert not ex.check(Normed).passed
    assert not ex.check(Strided).passed
    assert not ex.check(Shared).passed


def test_two_mistakes_at_once_are_not_right():
    def pooled_and_unsmoothed(logits, masks):
        p, t = torch.sigmoid(logits), masks.float()
        return 1 - 2 * (p * t).sum() / (p.sum() + t.sum())

    def swapped_and_cropped(x, skip, up, merge):
        x = up(x)
        return merge(torch.cat([x, skip[:, :, : x.shape[2], : x.shape[3]]], 1))

    def flipped_and_overwritten(x, kernel, stride):
        return unet.overlaps_overwritten(x, kernel.flip(0, 1), stride)

    def zeros_and_uncropped(model, x, multiple):
        down, right = -x.shape[2] % multiple, -x.shape[3] % multiple
        return model(F.pad(x, (0, right, 0, down)))

    for name, answer in (
        ("unet.soft_dice_loss", pooled_and_unsmoothed),
        ("unet.decoder_step", swapped_and_cropped),
        ("unet.transposed_convolution", flipped_and_overwritten),
        ("unet.at_any_size", zeros_and_uncropped),
    ):
        result = exercise(name).check(answer)
        assert not result.passed and result.mistake, result.message


def loss_of_sums(parts, axes):
    """1 - ratio of what stands above and below the line, each summed over `axes` first."""

    def soft_dice_loss(logits, masks):
        p, t = parts(logits.sigmoid()), parts(masks.float())
        above, below = 2 * (p * t).sum(-1) + 1, (p + t).sum(-1) + 1
        return (1 - above.sum(axes) / below.sum(axes)).mean()

    return soft_dice_loss


def both_classes(p):
    return torch.stack([1 - p, p], 1).flatten(2)


def one_ratio_of_both_classes(logits, masks):
    p, t = both_classes(logits.sigmoid()).flatten(1), both_classes(masks.float()).flatten(1)
    return 1 - ((2 * (p * t).sum(1) + 1) / ((p + t).sum(1) + 1)).mean()


def mean_of_both_classes(logits, masks):
    p, t = both_classes(logits.sigmoid()), both_classes(masks.float())
    return 1 - ((2 * (p * t).sum(2) + 1) / ((p + t).sum(2) + 1)).mean()


def dice_or(p, t, empty=1.0):
    area = (p.sum() + t.sum()).item()
    return 2 * (p & t).sum().item() / area if area else empty


def volumes_in(parts):
    """The Dice of each part of the stack."""

    def volume_dice(prediction, truth, depths):
        pairs = zip(parts(prediction, depths), parts(truth, depths), strict=True)
        return torch.tensor([dice_or(p, t) for p, t in pairs])

    return volume_dice


def nan_mean_of_slices(score):
    def volume_dice(prediction, truth, depths):
        slices = torch.tensor([score(p, t) for p, t in zip(prediction, truth, strict=True)])
        return torch.stack([part.nanmean() for part in slices.split(depths)])

    return volume_dice


WRONG = [
    ("unet.soft_dice_loss", loss_of_sums(lambda p: p.flatten(1), 0), "ratio-of-sums",
     "Right for a single image. You add up"),
    ("unet.soft_dice_loss", loss_of_sums(both_classes, 1), "background-as-a-class",
     "over both classes"),
    ("unet.soft_dice_loss", one_ratio_of_both_classes, "background-as-a-class-with-one",
     "over both classes"),
    ("unet.soft_dice_loss", mean_of_both_classes, "background-averaged-in", "the background"),
    ("unet.soft_dice_loss", loss_of_sums(lambda p: p, 1), "rows-as-classes", "axis 1 for classes"),
    ("unet.volume_dice", volumes_in(lambda x, d: x.chunk(len(d))), "equal-depths",
     "equal parts. The volumes differ in depth"),
    ("unet.volume_dice", volumes_in(lambda x, d: x.tensor_split(len(d))), "equal-depths",
     "equal parts. The volumes differ in depth"),
    ("unet.volume_dice", volumes_in(lambda x, d: x.split(len(x) // len(d))),
     "equal-parts-and-more", "equal parts"),
    ("unet.volume_dice", volumes_in(lambda x, d: x.reshape(len(d), -1)), "equal-rows-of-pixels",
     "equally many pixels"),
    ("unet.volume_dice", volumes_in(lambda x, d: x.view(len(d), -1, *x.shape[1:])),
     "equal-rows-of-slices", "equally many slices"),
    ("unet.volume_dice",
     volumes_in(lambda x, d: x.reshape(len(d), len(x) // len(d), *x.shape[1:])),
     "equal-rows-of-so-many-slices", "equally many slices"),
    ("unet.volume_dice", volumes_in(lambda x, d: x.split(d[0])), "parts-of-the-first-depth",
     "as deep as volume 0"),
    ("unet.volume_dice", volumes_in(lambda x, d: [x[i * d[0] :][: d[0]] for i in range(len(d))]),
     "as-many-parts-of-the-first-depth", "as volume 0 has"),
    ("unet.volume_dice", volumes_in(lambda x, d: [x[i * n : i * n + n] for i, n in enumerate(d)]),
     "start-by-own-depth", "by its own depth"),
    ("unet.volume_dice", nan_mean_of_slices(lambda p, t: dice_or(p, t, float("nan"))),
     "nan-mean-over-slices", "score each slice"),
    ("unet.volume_dice",
     nan_mean_of_slices(lambda p, t: dice_or(p, t) if t.any() else float("nan")),
     "nan-mean-over-slices-with-truth", "score each slice"),
    ("unet.volume_dice", volumes_in(lambda x, d: [x]), "pooled-to-one-row", "in one pot"),
    ("unet.volume_dice", lambda p, t, d: torch.tensor(dice_or(p, t)), "pooled-to-one-number",
     "in one pot"),
    ("unet.volume_dice", lambda p, t, d: dice_or(p, t), "pooled-to-a-plain-number", "in one pot"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "answer", "mistake", "words"), WRONG)
def test_wrong_answers_written_differently_are_named(named, name, answer, mistake, words):
    named(name, answer, mistake, words)


def test_a_tuple_of_maps_is_as_good_as_a_list():
    class Packed(unet.Encoder):
        def forward(self, x):
            return tuple(super().forward(x))

    assert exercise("unet.Encoder").check(Packed).passed


def test_losses_without_a_useful_gradient_are_named():
    ex = exercise("unet.soft_dice_loss")
    through_numpy = ex.check(
        lambda z, t: torch.tensor(unet.soft_dice_loss(z, t).detach().numpy().item())
    )
    as_number = ex.check(lambda z, t: unet.soft_dice_loss(z, t).item())
    assert through_numpy.mistake == "cut-off-from-the-graph"
    assert as_number.mistake == "plain-number" and "tensor" in as_number.message
    as_float = ex.check(lambda z, t: float(unet.soft_dice_loss(z, t)))
    assert as_float.mistake == "plain-number"

    def rounded(logits, masks):
        p = logits.sigmoid().round().flatten(1)
        t = masks.flatten(1).float()
        return (1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)).mean()

    assert ex.check(rounded).mistake == "hard-threshold"


def test_an_encoder_whose_layers_stand_in_a_plain_list_is_told_so():
    class Listed(nn.Module):
        def __init__(self, channels, width):
            super().__init__()
            sizes = [channels, width, 2 * width, 4 * width]
            self.convolutions = [nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(sizes)]

        def forward(self, x):
            found = []
            for i, layer in enumerate(self.convolutions):
                x = layer(F.max_pool2d(x, 2) if i else x).relu()
                found.append(x)
            return found

    class ListedToo(EncoderOfBlocks):  # a list of layers that are registered besides
        def __init__(self, channels, width):
            super().__init__(channels, width)
            self.also = list(self.blocks)

    result = exercise("unet.Encoder").check(Listed)
    assert result.mistake == "plain-list" and "nn.ModuleList" in result.message
    assert exercise("unet.Encoder").check(ListedToo).passed


def test_what_is_said_of_even_sizes_is_true():
    ex = exercise("unet.decoder_step")

    def nothing(x, skip, up, merge):
        merge(torch.cat([skip, up(x)], dim=1))

    result = ex.check(nothing)
    assert result.mistake == "returned-none" and "even" not in result.message
    for name in ("unet.at_any_size", "unet.decoder_step"):
        for mistake, (wrong, message) in exercise(name).wrong.items():
            for x in exercise(name).inputs() if message.startswith("Right for even") else ():
                if all(n % 2 == 0 for n in x[1].shape[2:]):
                    expected = exercise(name).reference(*x)
                    torch.testing.assert_close(wrong(*x), expected, msg=mistake)
    sizes = [x[1].shape[2:] for x in exercise("unet.at_any_size").inputs()]
    assert any(h % 2 == w % 2 == 0 and (h % 4 or w % 4) for h, w in sizes)


def test_the_right_half_of_a_pair_is_named():
    ex = exercise("unet.block_parameters")
    assert "The second number is right" in ex.check((77, 64)).message
    assert "The first number is right" in ex.check((3456, 77)).message
    assert "right" not in ex.check((76, 77)).message


def test_right_for_some_inputs_only():
    def for_equal_sizes(x, kernel, stride):
        size = (len(x) - 1) * stride + len(kernel)
        out = torch.zeros(size, size)
        for i in range(len(x)):
            for j in range(x.shape[1]):
                a, b = kernel.shape
                out[i * stride : i * stride + a, j * stride : j * stride + b] += x[i, j] * kernel
        return out

    def first_image_only(logits, masks):
        return unet.soft_dice_loss(logits[:1], masks[:1])

    assert not exercise("unet.transposed_convolution").check(for_equal_sizes).passed
    assert not exercise("unet.soft_dice_loss").check(first_image_only).passed


def test_a_skip_that_is_changed_in_place_is_named():
    def added(x, skip, up, merge):
        result = unet.decoder_step(x, skip, up, merge)
        skip.add_(1)
        return result

    assert exercise("unet.decoder_step").check(added).mistake == "input-changed-in-place"


def test_numpy_and_lists_instead_of_tensors_are_named():
    ex = exercise("unet.volume_dice")
    numpy = ex.check(lambda p, t, d: volumes_by_places(p, t, d).numpy())
    assert numpy.mistake == "numpy-instead-of-tensor"
    listed = ex.check(lambda p, t, d: volumes_by_places(p, t, d).tolist())
    assert listed.mistake == "list-instead-of-tensor"


@pytest.mark.parametrize("name", [ex.name for ex in unet.EXERCISES if ex.make_inputs])
def test_whatever_an_answer_raises_or_returns_the_check_survives(name):
    class Odd(nn.Module):
        def __init__(self, *settings):
            super().__init__()

        def forward(self, *inputs):
            raise KeyboardInterrupt if len(inputs) > 9 else SystemExit

    def strange(*inputs):
        return {"x": inputs}

    for answer in (Odd, strange, lambda *inputs: object(), 7, "text", torch.rand(3), nn.Linear):
        assert not exercise(name).check(answer).passed


# The references and the chapter's facts ----------------------------------------------------------


def test_references_agree_with_torch_and_the_course():
    with preserved_state():
        for x, kernel, stride in exercise("unet.transposed_convolution").inputs(seed=5):
            expected = stamps_by_torch(x, kernel, stride)
            torch.testing.assert_close(unet.transposed_convolution(x, kernel, stride), expected)
        for logits, masks in exercise("unet.soft_dice_loss").inputs(seed=5):
            expected = loss_by_monai(logits, masks)
            torch.testing.assert_close(unet.soft_dice_loss(logits, masks), expected)
        for prediction, truth, depths in exercise("unet.volume_dice").inputs(seed=5):
            expected = volumes_by_the_course(prediction, truth, depths)
            torch.testing.assert_close(unet.volume_dice(prediction, truth, depths), expected)


def test_values_to_predict_are_what_running_it_gives():
    block = DoubleConv(8, 16, nn.Conv2d, nn.BatchNorm2d)
    kernels = sum(p.numel() for p in block.parameters() if p.ndim == 4)
    norms = sum(p.numel() for p in block.parameters() if p.ndim == 1)
    assert unet.block_parameters() == (kernels, norms)
    image = features = torch.ones(1, 1, 128, 128, requires_grad=True)
    for level in range(3):
        features = F.avg_pool2d(features, 2) if level else features
        for _ in range(3):
            features = F.conv2d(features, torch.ones(1, 1, 3, 3), padding=1)
    (gradient,) = torch.autograd.grad(features[0, 0, 16, 16], image)
    assert int((gradient[0, 0] > 0).any(0).sum()) == unet.receptive_field()


def test_the_decoder_of_the_exercise_is_that_of_the_course():
    torch.manual_seed(0)
    model = UNet(1, 1, width=4, levels=2).eval()
    x = torch.randn(2, 1, 8, 10)
    fine = model.down[0](x)
    coarse = model.down[1](F.max_pool2d(fine, 2))
    merged = unet.decoder_step(coarse, fine, model.up[0], model.merge[0])
    torch.testing.assert_close(model.heads[0](merged), model(x))


def test_every_inner_pixel_gets_equally_many_stamps_only_where_the_stride_divides_the_kernel():
    for size in range(1, 7):
        for stride in (1, 2, 3):
            if size < stride:
                continue
            counts = unet.transposed_convolution(torch.ones(9, 9), torch.ones(size, size), stride)
            inner = counts[size:-size, size:-size]
            assert (len(inner.unique()) == 1) == (size % stride == 0)


def test_the_object_gets_at_least_half_of_the_dice_gradient():
    for logit in (-6.0, -2.0, 0.0, 3.0):
        for size in (1, 40, 900):
            z = torch.full((1000,), logit, dtype=torch.float64, requires_grad=True)
            t = (torch.arange(1000) < size).double()
            p = z.sigmoid()
            (1 - 2 * (p * t).sum() / (p.sum() + t.sum())).backward()
            assert z.grad[:size].abs().sum() >= z.grad[size:].abs().sum()


def test_the_loss_of_the_course_pools_over_the_batch():
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 3, 4, 5), torch.randint(0, 3, (3, 4, 5))
    p, t = logits.softmax(1), F.one_hot(labels, 3).movedim(-1, 1)
    both, areas = ((p * t).sum((0, 2, 3))[1:], (p + t).sum((0, 2, 3))[1:])
    expected = 1 - ((2 * both + 1e-5) / (areas + 1e-5)).mean() + F.cross_entropy(logits, labels)
    torch.testing.assert_close(tasks.dice_and_cross_entropy(labels)(logits, labels), expected)


def test_empty_masks_as_the_chapter_says():
    mask = torch.zeros(2, 6, 6)
    mask[0, 2:4, 2:4] = 1
    nothing = torch.zeros_like(mask)
    assert metrics.dice(nothing, mask).tolist() == [0, 1]
    assert metrics.hd95(nothing, mask).isnan().all()


def test_published_figures_of_one_data_set_have_no_empty_columns():
    pneumonia, hippocampus = ledger.published("pneumonia"), ledger.published("hippocampus")
    assert list(pneumonia) == ["system", "auroc", "accuracy", "source", "standing"]
    assert list(hippocampus) == ["system", "dice_anterior", "dice_posterior", "source", "standing"]
    assert not hippocampus.isna().any(axis=None) and len(pneumonia) == 12
    assert set(hippocampus["standing"]) <= {"read there", "second hand"}
    assert "fold 0" in hippocampus["system"][0], "our fold is the first row, which chapters show"
