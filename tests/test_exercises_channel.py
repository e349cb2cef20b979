"""Chapter 03: right answers written differently pass, half-right ones are caught, facts hold."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from einops import rearrange, reduce
from torch import nn
from torch.nn import functional as F

from course_utils.attention import CBAM, ECA, ChannelAttention, SqueezeExcitation
from course_utils.exercises import channel, exercise
from course_utils.exercises.sandbox import preserved_state
from course_utils.senet import ResidualBlock


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "progress.json"))


# Right answers written differently ---------------------------------------------------------------


def squeeze_einsum(x):
    return torch.einsum("nchw->nc", x) / (x.shape[2] * x.shape[3])


def squeeze_pooled(x):
    return nn.AdaptiveAvgPool2d(1)(x).flatten(1)


def squeeze_einops(x):
    return reduce(x, "n c h w -> n c", "mean")


def squeeze_in_two_steps(x):
    return x.mean(-1).mean(-1)


def squeeze_by_loop(x):
    return torch.stack([torch.stack([plane.mean() for plane in image]) for image in x])


class SqueezeModule(nn.Module):
    def forward(self, x):
        return F.avg_pool2d(x, x.shape[2:])[..., 0, 0]


class SEConvolutional(nn.Module):
    def __init__(self, channels, reduction=16):
        super().__init__()
        hidden = max(1, channels // reduction)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, hidden, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x):
        return self.gate(x) * x


class SEInEinsum(nn.Module):
    def __init__(self, channels, reduction):
        super().__init__()
        hidden = channels // reduction or 1
        self.w1 = nn.Parameter(torch.zeros(hidden, channels))
        self.b1 = nn.Parameter(torch.zeros(hidden))
        self.w2 = nn.Parameter(torch.zeros(channels, hidden))
        self.b2 = nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        z = F.relu(F.linear(reduce(x, "n c h w -> n c", "mean"), self.w1, self.b1))
        s = 1 / (1 + torch.exp(-F.linear(z, self.w2, self.b2)))
        return torch.einsum("nchw,nc->nchw", x, s)


class SECreatedBackwards(nn.Module):
    """The layers are created in the other order; their shapes tell them apart."""

    def __init__(self, channels, reduction):
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.second = nn.Linear(hidden, channels)
        self.first = nn.Linear(channels, hidden)

    def forward(self, x):
        n, c, _, _ = x.shape
        s = self.second(F.relu(self.first(x.view(n, c, -1).mean(2)))).sigmoid()
        return x * s.view(n, c, 1, 1).expand_as(x)


class SENamedAndOrderedOtherwise(nn.Module):
    """Created backwards under other names, and with layers of one shape where r is 1."""

    def __init__(self, C, r):
        super().__init__()
        units = max(C // r, 1)
        self.a_bias = nn.Parameter(torch.ones(C))
        self.a = nn.Parameter(torch.ones(C, units))
        self.squash, self.net = nn.Sigmoid(), nn.ModuleDict({"z": nn.Linear(C, units)})

    def forward(self, features):
        z = F.relu(self.net["z"](features.mean(dim=[-2, -1])))
        return torch.mul(self.squash(z @ self.a.T + self.a_bias)[..., None, None], features)


class SEByConv1d(nn.Module):
    def __init__(self, channels, reduction):
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.down, self.up = nn.Conv1d(channels, hidden, 1), nn.Conv1d(hidden, channels, 1)

    def forward(self, x):
        z = x.flatten(2).mean(2, keepdim=True)
        return x * self.up(self.down(z).relu()).sigmoid()[..., None]


def se_factory(channels, reduction):
    return SEInEinsum(channels, reduction)


class MeanMaxConvolutional(nn.Module):
    def __init__(self, channels, reduction):
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1)
        )

    def forward(self, x):
        mean, peak = F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)
        return x * torch.sigmoid(self.mlp(mean) + self.mlp(peak))


class MeanMaxStacked(nn.Module):
    """Both pooled rows go through the perceptron in one batch."""

    def __init__(self, channels, reduction):
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels)
        )

    def forward(self, x):
        pooled = torch.stack([reduce(x, "n c h w -> n c", kind) for kind in ("max", "mean")])
        return x * rearrange(self.mlp(pooled).sum(0).sigmoid(), "n c -> n c 1 1")


class MeanMaxCreatedBackwards(nn.Module):
    def __init__(self, channels, reduction):
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.out, self.into = nn.Linear(hidden, channels), nn.Linear(channels, hidden)

    def forward(self, x):
        pooled = x.flatten(2).mean(2), x.flatten(2).max(2).values
        s = sum(self.out(self.into(p).clamp(min=0)) for p in pooled).sigmoid()
        return x * s.reshape(*s.shape, 1, 1)


class MeanMaxHiddenSummed(nn.Module):
    """The second layer is linear: the hidden units may be added before it, with its bias twice."""

    def __init__(self, channels, reduction):
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.down, self.up = nn.Linear(channels, hidden), nn.Linear(hidden, channels)

    def forward(self, x):
        hidden = self.down(x.mean((2, 3))).relu() + self.down(x.amax((2, 3))).relu()
        return x * (self.up(hidden) + self.up.bias).sigmoid()[:, :, None, None]


def kernel_by_loop(x):
    t, k = (math.log(x.shape[1], 2) + 1) / 2, 1
    while k + 1 <= t + 1e-9:
        k += 2
    return k


def kernel_by_bits(x):
    return int((math.log2(x.size(1)) + 1) // 2) | 1


def kernel_nearest_odd(x):
    """As in the paper, and upwards on a tie."""
    t = (math.log2(x.shape[1]) + 1) / 2
    return min(range(19, 0, -2), key=lambda k: abs(k - t))


def kernel_in_closed_form(x):
    return 2 * math.floor((math.log2(x.shape[1]) + 1) / 4) + 1


class ECAUnfolded(nn.Module):
    def __init__(self, channels, kernel_size):
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(kernel_size))

    def forward(self, x):
        k = len(self.kernel)
        row = F.pad(x.mean((2, 3)), (k // 2, k // 2))
        return x * (row.unfold(1, k, 1) @ self.kernel).sigmoid()[..., None, None]


class ECAConv2d(nn.Module):
    def __init__(self, channels, kernel_size):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, (1, kernel_size), padding="same", bias=False)

    def forward(self, x):
        row = rearrange(x.mean((2, 3)), "n c -> n 1 1 c")
        return x * rearrange(self.conv(row).sigmoid(), "n 1 1 c -> n c 1 1")


class ECATransposed(nn.Module):
    """As the authors write it."""

    def __init__(self, channels, k_size=3):
        super().__init__()
        self.conv = nn.Conv1d(1, 1, k_size, padding=(k_size - 1) // 2, bias=False)

    def forward(self, x):
        y = F.adaptive_avg_pool2d(x, 1)
        y = self.conv(y.squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
        return x * torch.sigmoid(y).expand_as(x)


def reweigh_linear(x, down, up):
    return x * F.linear(F.linear(x.mean((2, 3)), down).relu(), up).sigmoid()[..., None, None]


def reweigh_columns(x, down, up):
    squeezed = x.flatten(2).mean(2).unsqueeze(-1)
    return x * torch.sigmoid(up @ (down @ squeezed).clamp(min=0))[..., None]


def reweigh_einsum(x, down, up):
    hidden = torch.einsum("hc,nc->nh", down, x.mean((2, 3))).relu()
    return x * torch.einsum("ch,nh->nc", up, hidden).sigmoid()[:, :, None, None]


def reweigh_by_loop(x, down, up):
    weighed = []
    for image in x:
        gates = (up @ (down @ image.mean((1, 2))).relu()).sigmoid()
        weighed.append(image * gates[:, None, None])
    return torch.stack(weighed)


class GatedBlockModule(nn.Module):
    def forward(self, x, branch, gate, shortcut):
        return F.relu(shortcut(x) + gate(branch(x)))


def gated_block_clamped(x, branch, gate, shortcut):
    y = branch(x)
    y = gate(y)
    y = y + shortcut(x)
    return y.clamp(min=0)


RIGHT = {
    "channel.squeeze": [
        squeeze_einsum,
        squeeze_pooled,
        squeeze_einops,
        squeeze_in_two_steps,
        squeeze_by_loop,
        SqueezeModule,
    ],
    "channel.SEGate": [
        SEConvolutional,
        SEInEinsum,
        SECreatedBackwards,
        SENamedAndOrderedOtherwise,
        SEByConv1d,
        se_factory,
    ],
    "channel.se_parameters": [
        (2304, 108),
        [2304, 108],
        (2 * 96**2 / 8, 12 + 96),
        torch.tensor([2304, 108]),
    ],
    "channel.MeanMaxGate": [
        MeanMaxConvolutional,
        MeanMaxStacked,
        MeanMaxCreatedBackwards,
        MeanMaxHiddenSummed,
    ],
    "channel.eca_kernel": [
        kernel_by_bits,
        kernel_by_loop,
        kernel_nearest_odd,
        kernel_in_closed_form,
    ],
    "channel.ECAGate": [ECAUnfolded, ECAConv2d, ECATransposed],
    "channel.gated_block": [GatedBlockModule, gated_block_clamped],
    "channel.reweigh": [reweigh_linear, reweigh_columns, reweigh_einsum, reweigh_by_loop],
}


@pytest.mark.parametrize("name", [ex.name for ex in channel.EXERCISES])
def test_right_answers_written_differently_pass(name):
    for answer in RIGHT[name]:
        result = exercise(name).check(answer)
        assert result.passed, (answer, result.message)


@pytest.mark.parametrize("answer", RIGHT["channel.SEGate"])
def test_the_order_of_layers_does_not_matter_where_both_have_one_shape(answer, monkeypatch):
    def square(rng):
        return [(5, 1, torch.randn(3, 5, 4, 2, generator=rng)), (4, 1, torch.randn(1, 4, 2, 3))]

    monkeypatch.setattr(exercise("channel.SEGate"), "make_inputs", square)
    assert exercise("channel.SEGate").check(answer).passed


# Half-right answers and combinations -------------------------------------------------------------


def test_squeeze_without_an_axis_is_named_where_there_is_one_channel():
    class Pooled(channel.SEGate):
        def forward(self, x):
            z = F.adaptive_avg_pool2d(x, 1).squeeze()
            return x * torch.sigmoid(self.up(F.relu(self.down(z)))).view(len(x), -1, 1, 1)

    class PooledTwice(channel.MeanMaxGate):
        def forward(self, x):
            n, c = x.shape[:2]
            pooled = [f(x, 1).squeeze() for f in (F.adaptive_avg_pool2d, F.adaptive_max_pool2d)]
            return x * sum(map(self.judge, pooled)).sigmoid().reshape(n, c, 1, 1)

    for name, answer in (("channel.SEGate", Pooled), ("channel.MeanMaxGate", PooledTwice)):
        result = exercise(name).check(answer)
        assert result.mistake == "channel-axis-lost" and "more than one" not in result.message
    for name in ("channel.SEGate", "channel.MeanMaxGate", "channel.ECAGate"):
        shapes = [arguments[-1].shape for arguments in exercise(name).inputs()]
        assert any(n > 1 and c == 1 for n, c, _, _ in shapes)


def test_a_relu_that_does_nothing_is_as_good_as_none():
    class Behind(channel.SEGate):
        def weights(self, x):
            return self.up(self.down(x.mean((2, 3)))).sigmoid().relu()[:, :, None, None]

    for name, answer in (
        ("channel.SEGate", Behind),
        ("channel.SEGate", channel.NoRelu),
        ("channel.MeanMaxGate", channel.NoReluForBoth),
    ):
        result = exercise(name).check(answer)
        assert result.mistake == "relu-missing"
        assert "Nothing stands between" in " ".join(result.message.split())


MENDABLE = {"squeeze": "squeeze()", "products": "product", "last line": "last line"}


@pytest.mark.parametrize("axes", (":, :", "..."))
@pytest.mark.parametrize("left", [c for n in (1, 2, 3) for c in combinations(MENDABLE, n)])
def test_half_mended_reweighing_names_what_is_left(left, axes):
    def answer(x, down, up):
        z = x.mean((2, 3))
        z = z.squeeze() if "squeeze" in left else z
        if "products" in left:
            s = torch.sigmoid(up @ torch.relu(down @ z))
        else:
            s = torch.sigmoid(F.linear(torch.relu(F.linear(z, down)), up))
        if "last line" in left:
            return x * s[:, None, None]
        return x * (s[:, :, None, None] if axes == ":, :" else s[..., None, None])

    result = exercise("channel.reweigh").check(answer)
    if left == tuple(MENDABLE):
        assert result.mistake == "unmended" and "the code you started from" in result.message
    else:
        assert not result.passed and "started from" not in result.message
        for part, word in MENDABLE.items():
            assert (word in result.message) >= (part in left), (left, part, result.message)


def test_nearly_right_counts_of_parameters():
    ex = exercise("channel.se_parameters")
    for answer, words in (
        ((2304, 0), ("weights are right", "biases as well")),
        ((1152, 12), ("single matrix", "hidden layer only")),
        ((9216, 108), ("C by C", "biases are right")),
        ((18432, 192), ("as wide as the input",)),
        ((1536, 104), ("8 hidden units",)),
        ((3072, 112), ("16 hidden units", "rounded")),
        ((2412, 108), ("sum of both",)),
        (2304, ("a tuple",)),
    ):
        message = " ".join(ex.check(answer).message.split())
        assert all(word in message for word in words), message
        assert not any(f" {number} " in f"{message} " for number in (2304, 108))


def test_gates_that_weigh_too_much_are_named():
    ex = exercise("channel.gated_block")
    for mistake, answer in (
        ("gated-branch-times-branch", lambda x, b, g, s: (g(b(x)) * b(x) + s(x)).relu()),
        ("gate-on-both-paths", lambda x, b, g, s: (g(s(x)) + g(b(x))).relu()),
        (
            "gated-paths-times-themselves",
            lambda x, b, g, s: (g(b(x)) * b(x) + g(s(x)) * s(x)).relu(),
        ),
    ):
        result = ex.check(answer)
        assert result.mistake == mistake and "more than one" not in result.message


def test_kernels_that_are_nearly_right():
    def by_floor(x):
        t = (math.log2(x.shape[1]) + 1) // 2
        return t if t % 2 else t + 1

    def one_less(x):
        t = int((math.log2(x.shape[1]) + 1) / 2)
        return t - 1 if t % 2 == 0 else t

    def by_round(x):
        t = round((math.log2(x.shape[1]) + 1) / 2)
        return t + (t % 2 == 0)

    def by_ceil(x):
        return math.ceil((math.log2(x.shape[1]) + 1) / 2) | 1

    for mistake, answer in (
        ("float-instead-of-int", by_floor),
        ("float-instead-of-int", lambda x: np.float32(kernel_by_bits(x))),
        ("one-less-where-even", one_less),
        ("rounded", by_round),
        ("rounded-up", by_ceil),
    ):
        result = exercise("channel.eca_kernel").check(answer)
        assert result.mistake == mistake, (mistake, result.message)
    assert exercise("channel.eca_kernel").check(lambda x: np.int64(kernel_by_bits(x))).passed


def odd(k):
    return k if k % 2 else k + 1


def test_kernels_whose_mistake_hides_behind_another():
    def log(x):
        return math.log2(x.shape[1])

    for mistake, answer in (
        ("tie-goes-down", lambda x: min((1, 3, 5, 7), key=lambda k: abs(k - (log(x) + 1) / 2))),
        ("tie-goes-to-even", lambda x: 2 * round((log(x) - 1) / 4) + 1),
        ("one-within-the-logarithm", lambda x: odd(math.floor(math.log2(x.shape[1] + 1) / 2))),
        ("rounded", lambda x: odd(int(log(x) / 2 + 1))),
        ("rounded", lambda x: odd(int(log(x) / 2) + 1)),
        ("brackets-missing", lambda x: odd(int(log(x) + 1 / 2))),
        ("one-forgotten", lambda x: odd(int(log(x) / 2))),
    ):
        result = exercise("channel.eca_kernel").check(answer)
        assert result.mistake == mistake, (mistake, result.message)
        assert "more than one thing" not in result.message
    for answer in (lambda x: odd(int(log(x) / 2 + 1)), lambda x: odd(round((log(x) + 1) / 2))):
        message = " ".join(exercise("channel.eca_kernel").check(answer).message.split())
        assert "added after the division" in message and "rounded to the nearest" in message


@pytest.mark.parametrize("base", [channel.SEGate, channel.MeanMaxGate])
def test_a_hidden_width_that_is_rounded_is_named(base):
    widths = (
        lambda c, r: math.ceil(c / r),
        lambda c, r: max(1, round(c / r)),
        lambda c, r: (c + r - 1) // r,
    )
    for width in widths:

        class Rounded(base):
            def __init__(self, channels, reduction, width=width):
                super().__init__(channels, reduction)
                self.down = nn.Linear(channels, width(channels, reduction))
                self.up = nn.Linear(width(channels, reduction), channels)

        result = exercise(f"channel.{base.__name__}").check(Rounded)
        assert result.mistake == "hidden-width-rounded", result.message


def test_gates_that_are_nearly_right_are_named():
    def with_forward(base, forward):
        return type("Answer", (base,), {"forward": lambda self, x: forward(self, x)})

    def both(self, x):
        return self.judge(x.mean((2, 3))), self.judge(x.amax((2, 3)))

    def spread(self, x):
        return self.judge(x.mean((2, 3))) + self.judge(x.flatten(2).std(2))

    def row(self, x):
        return self.conv(x.mean((2, 3)).unsqueeze(1)).squeeze(1)

    def eca_by_view(self, x):
        return x * self.conv(F.adaptive_avg_pool2d(x, 1)).sigmoid()

    def eca_unbatched(self, x):
        return x * self.conv(x.flatten(2).mean(-1)).sigmoid().unsqueeze(-1).unsqueeze(-1)

    wide = (..., None, None)
    for base, mistake, forward in (
        (
            "MeanMaxGate",
            "deviation-instead-of-maximum",
            lambda s, x: x * spread(s, x).sigmoid()[wide],
        ),
        (
            "MeanMaxGate",
            "larger-verdict",
            lambda s, x: x * both(s, x)[0].max(both(s, x)[1]).sigmoid()[wide],
        ),
        (
            "MeanMaxGate",
            "gates-never-below-a-half",
            lambda s, x: x * F.relu(sum(both(s, x))).sigmoid()[wide],
        ),
        ("MeanMaxGate", "broadcasting-axes-missing", lambda s, x: x * sum(both(s, x)).sigmoid()),
        ("MeanMaxGate", "gate-returned-flat", lambda s, x: sum(both(s, x)).sigmoid()),
        ("MeanMaxGate", "input-added", lambda s, x: x * (1 + sum(both(s, x)).sigmoid()[wide])),
        ("ECAGate", "sequence-axis-missing", eca_unbatched),
        ("ECAGate", "four-axes", eca_by_view),
        ("ECAGate", "gate-returned-flat", lambda s, x: row(s, x).sigmoid()),
        (
            "ECAGate",
            "gates-never-below-a-half",
            lambda s, x: x * row(s, x).clamp(min=0).sigmoid()[wide],
        ),
        ("ECAGate", "axes-missing-of-the-first-factor", lambda s, x: row(s, x).sigmoid() * x),
        ("ECAGate", "input-added", lambda s, x: x * (1 + row(s, x).sigmoid()[wide])),
    ):
        answer = with_forward(getattr(channel, base), forward)
        result = exercise(f"channel.{base}").check(answer)
        assert result.mistake == mistake, (base, mistake, result.message)
        assert "more than one thing" not in result.message


def test_matrices_turned_or_exchanged_are_named():
    def turned(x, down, up):
        hidden = F.relu(x.mean((2, 3)) @ down.reshape(-1, len(down)))
        return x * torch.sigmoid(hidden @ up.reshape(-1, len(up)))[..., None, None]

    def exchanged(x, down, up):
        return (
            x * F.linear(F.linear(x.mean((2, 3)), up.T).relu(), down.T).sigmoid()[..., None, None]
        )

    def open_ended(x, down, up):
        return x * F.linear(F.linear(x.mean((2, 3)), down).relu(), up)[..., None, None]

    for mistake, answer in (
        ("viewed-instead-of-transposed", turned),
        ("matrices-exchanged", exchanged),
        ("sigmoid-missing", open_ended),
    ):
        assert exercise("channel.reweigh").check(answer).mistake == mistake


def test_other_slips_are_named():
    for name, mistake, answer in (
        ("squeeze", "divided-by-the-height", lambda x: x.flatten(2).sum(2) / x.shape[-2]),
        ("squeeze", "divided-by-the-width", lambda x: x.flatten(2).sum(2) / x.shape[-1]),
        ("se_parameters", "layer-by-layer", (96 * 12 + 12, 12 * 96 + 96)),
        ("gated_block", "gate-before-both-paths", lambda x, b, g, s: F.relu(b(g(x)) + s(g(x)))),
        ("gated_block", "relu-on-the-shortcut", lambda x, b, g, s: F.relu(g(b(x)) + F.relu(s(x)))),
        ("gated_block", "relu-on-each-path", lambda x, b, g, s: F.relu(g(b(x))) + F.relu(s(x))),
    ):
        assert exercise(f"channel.{name}").check(answer).mistake == mistake


def test_padding_that_fits_one_kernel_is_named():
    class Fixed(nn.Module):
        def __init__(self, channels, kernel_size):
            super().__init__()
            self.conv = nn.Conv1d(1, 1, kernel_size, padding=1, bias=False)

        def forward(self, x):
            y = F.adaptive_avg_pool2d(x, 1).flatten(1).unsqueeze(1)
            return x * self.conv(y).sigmoid().transpose(1, 2).unsqueeze(-1)

    assert exercise("channel.ECAGate").check(Fixed).mistake == "padding-for-three"


def test_a_bias_forgotten_is_named():
    class WithoutBias(channel.SEGate):
        def __init__(self, channels, reduction):
            super().__init__(channels, reduction)
            hidden = max(channels // reduction, 1)
            self.down = nn.Linear(channels, hidden, bias=False)

    result = exercise("channel.SEGate").check(WithoutBias)
    assert result.mistake == "missing-bias"


def test_two_mistakes_at_once_are_not_right():
    class SoftmaxWithoutReduction(channel.SoftmaxGate):
        def __init__(self, channels, reduction):
            super().__init__(channels, 1)

    class TwoPerceptronsSummedLate(channel.TwoPerceptrons):
        def forward(self, x):
            both = self.judge(x.mean((2, 3))).sigmoid() + self.other(x.amax((2, 3))).sigmoid()
            return x * both[:, :, None, None]

    for name, answer in (
        ("channel.SEGate", SoftmaxWithoutReduction),
        ("channel.MeanMaxGate", TwoPerceptronsSummedLate),
    ):
        result = exercise(name).check(answer)
        assert not result.passed and result.mistake == "other-parameters", result.message


def test_numpy_and_gates_without_a_gradient_are_not_right():
    class ThroughNumpy(channel.SEGate):
        def forward(self, x):
            return (x * self.weights(x)).detach().numpy()

    class WithoutGraph(channel.SEGate):
        def forward(self, x):
            with torch.no_grad():
                return x * self.weights(x)

    class Reread(channel.ECAGate):
        def forward(self, x):
            return x * super().forward(torch.ones_like(x)).data

    assert exercise("channel.SEGate").check(ThroughNumpy).mistake == "numpy-instead-of-tensor"
    assert exercise("channel.SEGate").check(WithoutGraph).mistake == "gate-cut-off"
    assert not exercise("channel.ECAGate").check(Reread).passed


def test_dropout_or_a_norm_too_many_is_not_right():
    class Dropped(channel.SEGate):
        def weights(self, x):
            return F.dropout(super().weights(x), 0.5, self.training)

    class Normed(channel.MeanMaxGate):
        def __init__(self, channels, reduction):
            super().__init__(channels, reduction)
            self.norm = nn.BatchNorm2d(channels)

        def forward(self, x):
            return self.norm(super().forward(x))

    assert not exercise("channel.SEGate").check(Dropped).passed
    assert not exercise("channel.MeanMaxGate").check(Normed).passed


def test_right_for_some_sizes_only():
    def square(x, down, up):
        squeezed = x.flatten(2).sum(2) / x.shape[-1] ** 2
        return x * (squeezed @ down.T).relu().matmul(up.T).sigmoid()[:, :, None, None]

    def for_one(x):
        return x[0].mean((1, 2))[None]

    assert not exercise("channel.reweigh").check(square).passed
    assert exercise("channel.squeeze").check(for_one).mistake == "right-only-for-batch-of-one"


def test_the_kernel_as_a_tensor_or_a_float():
    as_tensor = exercise("channel.eca_kernel").check(lambda x: torch.tensor(kernel_by_bits(x)))
    assert as_tensor.mistake == "tensor-instead-of-number"
    assert not exercise("channel.eca_kernel").check(lambda x: kernel_by_bits(x) + 0.5).passed


@pytest.mark.parametrize("name", [ex.name for ex in channel.EXERCISES if ex.make_inputs])
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


def test_unfinished_classes_are_not_answered():
    class Stub(nn.Module):
        def __init__(self, channels, reduction):
            super().__init__()
            ...

        def forward(self, x): ...

    for name in ("channel.SEGate", "channel.MeanMaxGate", "channel.ECAGate"):
        assert exercise(name).check(Stub).mistake == "not-answered"


# The references and the chapter's facts ----------------------------------------------------------


def test_references_agree_with_the_course():
    torch.manual_seed(0)
    x = torch.randn(3, 12, 5, 4)
    pairs = [
        (channel.SEGate(12, 4), SqueezeExcitation(12, 4)),
        (channel.MeanMaxGate(12, 4), ChannelAttention(12, 4)),
        (channel.ECAGate(12, 3), ECA(12, 3)),
    ]
    for ours, theirs in pairs:
        theirs.load_state_dict(
            dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True))
        )
        torch.testing.assert_close(ours(x), theirs(x))
    for channels in (1, 2, 6, 16, 24, 32, 48, 64, 128, 256, 512, 1024, 2048):
        kernel = channel.eca_kernel(torch.empty(1, channels, 1, 1))
        assert kernel == ECA(channels).conv.kernel_size[0]
        assert kernel % 2 == 1


def test_the_gate_of_the_courses_block_stands_where_the_exercise_puts_it():
    torch.manual_seed(0)
    block = ResidualBlock(4, 6, attention=lambda c: SqueezeExcitation(c, 2)).eval()
    x = torch.randn(2, 4, 7, 5)
    branch = nn.Sequential(block.conv1, block.norm1, nn.ReLU(), block.conv2, block.norm2)
    expected = channel.gated_block(x, branch, block.attention, block.shortcut)
    torch.testing.assert_close(block(x), expected)
    after = channel.gate_after_the_addition(x, branch, block.attention, block.shortcut)
    assert not torch.allclose(after, expected)


def test_se_holds_two_c_squared_by_r_weights():
    for channels, reduction in ((64, 16), (64, 2), (256, 16), (96, 8), (32, 1)):
        module = SqueezeExcitation(channels, reduction)
        weights = sum(p.numel() for p in module.parameters() if p.ndim == 2)
        biases = sum(p.numel() for p in module.parameters() if p.ndim == 1)
        assert weights == 2 * channels**2 // reduction
        assert biases == channels // reduction + channels
    module = SqueezeExcitation(96, 8)
    found = tuple(sum(p.numel() for p in module.parameters() if p.ndim == n) for n in (2, 1))
    assert found == channel.se_parameters()


def test_gates_are_sigmoids_of_shape_n_c_1_1():
    torch.manual_seed(0)
    x = 3 * torch.randn(2, 8, 5, 4)
    for module in (SqueezeExcitation(8, 2), ECA(8), ChannelAttention(8, 2)):
        gates = module.weights(x)
        assert gates.shape == (2, 8, 1, 1)
        assert bool(((gates > 0) & (gates < 1)).all())
        torch.testing.assert_close(module(x), x * gates)
    assert CBAM(8, 2).weights(x).shape == x.shape


def test_timm_rounds_the_hidden_width_as_the_chapter_says():
    from timm.layers import SEModule

    for channels in (16, 64, 160, 176, 256, 512):
        rounded = max(8, int(channels / 16 + 4) // 8 * 8)
        assert SEModule(channels).fc1.out_channels == rounded
    assert [SEModule(c).fc1.out_channels for c in (64, 160, 176)] == [8, 8, 8]


def test_eca_learns_k_numbers_and_no_bias():
    for channels in (1, 16, 64, 128, 2048):
        (kernel,) = ECA(channels).parameters()
        assert kernel.shape[:2] == (1, 1) and kernel.shape[2] % 2 == 1


def test_one_hidden_unit_makes_all_gates_functions_of_one_number():
    torch.manual_seed(0)
    gates = SqueezeExcitation(16, 16).weights(torch.randn(50, 16, 3, 3))[:, :, 0, 0]
    logits = torch.logit(gates.double())
    centred = logits - logits.mean(0)
    assert torch.linalg.matrix_rank(centred, rtol=1e-4) == 1


def test_checks_leave_the_random_stream_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with preserved_state():
        exercise("channel.SEGate").check(channel.SEGate)
    assert torch.equal(torch.get_rng_state(), before)
