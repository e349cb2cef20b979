"""Chapter 03: right answers written differently pass, inputs tell what they should, facts hold."""

import math

import pytest
import torch
from einops import rearrange, reduce
from torch import nn
from torch.nn import functional as F

from course_utils.attention import ECA, ChannelAttention, SqueezeExcitation
from course_utils.exercises import exercise
from course_utils.senet import ResidualBlock


def module(forward, **parts):
    """A module class of (channels, setting): functions that make its parts, in this order."""

    class Answer(nn.Module):
        def __init__(self, channels, setting):
            super().__init__()
            for name, make in parts.items():
                setattr(self, name, make(channels, setting))

    Answer.forward = forward
    return Answer


def units(c, r):
    return c // r or 1


def matrix(rows, columns):
    return nn.Parameter(torch.zeros(rows, columns))


def own_weights(forward, *turned):
    """Matrices and biases of one's own; the turned ones are stored as (in, out)."""
    return module(
        forward,
        w1=lambda c, r: matrix(*(c, units(c, r))[:: 1 if "w1" in turned else -1]),
        b1=lambda c, r: nn.Parameter(torch.zeros(units(c, r))),
        w2=lambda c, r: matrix(*(c, units(c, r))[:: -1 if "w2" in turned else 1]),
        b2=lambda c, r: nn.Parameter(torch.zeros(c)),
    )


def se_in_einsum(self, x):
    z = F.relu(F.linear(reduce(x, "n c h w -> n c", "mean"), self.w1, self.b1))
    return torch.einsum("nchw,nc->nchw", x, 1 / (1 + torch.exp(-F.linear(z, self.w2, self.b2))))


def se_named_and_ordered_otherwise(self, features):
    z = F.relu(self.net["z"](features.mean(dim=[-2, -1])))
    return torch.mul((z @ self.a.T + self.a_bias).sigmoid()[..., None, None], features)


def pooled_together(self, x):
    pooled = torch.stack([reduce(x, "n c h w -> n c", kind) for kind in ("max", "mean")])
    logits = self.out(self.into(pooled).clamp(min=0)).sum(0)
    return x * rearrange(logits.sigmoid(), "n c -> n c 1 1")


def hidden_units_summed(self, x):
    """The second layer is linear: the hidden units may be added before it, with its bias twice."""
    hidden = self.into(x.mean((2, 3))).relu() + self.into(x.flatten(2).max(2).values).relu()
    return x * (self.out(hidden) + self.out.bias).sigmoid()[:, :, None, None]


def eca_unfolded(self, x):
    k = len(self.kernel)
    row = F.pad(x.mean((2, 3)), (k // 2, k // 2))
    return x * (row.unfold(1, k, 1) @ self.kernel).sigmoid()[..., None, None]


def eca_of_the_authors(self, x):
    y = F.adaptive_avg_pool2d(x, 1)
    y = self.conv(y.squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
    return x * torch.sigmoid(y).expand_as(x)


def kernel_nearest_odd(x):
    """As in the paper, and upwards on a tie."""
    t = (math.log2(x.shape[1]) + 1) / 2
    return min(range(19, 0, -2), key=lambda k: abs(k - t))


def reweigh_einsum(x, down, up):
    hidden = torch.einsum("hc,nc->nh", down, x.mean((2, 3))).relu()
    return x * torch.einsum("ch,nh->nc", up, hidden).sigmoid()[:, :, None, None]


def reweigh_by_loop(x, down, up):
    gates = [(up @ (down @ image.mean((1, 2))).relu()).sigmoid() for image in x]
    return torch.stack([image * s[:, None, None] for image, s in zip(x, gates, strict=True)])


def convolutions(c, r):
    return [nn.Conv2d(c, units(c, r), 1), nn.ReLU(inplace=True), nn.Conv2d(units(c, r), c, 1)]


BACKWARDS = {
    "out": lambda c, r: nn.Linear(units(c, r), c),
    "into": lambda c, r: nn.Linear(c, units(c, r)),
}
RIGHT = {
    "channel.squeeze": [
        lambda x: torch.einsum("nchw->nc", x) / (x.shape[2] * x.shape[3]),
        lambda x: nn.AdaptiveAvgPool2d(1)(x).flatten(1),
        lambda x: reduce(x, "n c h w -> n c", "mean"),
        lambda x: x.mean(-1).mean(-1),
        lambda x: torch.stack([torch.stack([plane.mean() for plane in image]) for image in x]),
    ],
    "channel.SEGate": [
        module(
            lambda self, x: self.gate(x) * x,
            gate=lambda c, r: nn.Sequential(
                nn.AdaptiveAvgPool2d(1), *convolutions(c, r), nn.Sigmoid()
            ),
        ),
        own_weights(se_in_einsum),
        lambda channels, reduction: own_weights(se_in_einsum)(channels, reduction),
        module(
            se_named_and_ordered_otherwise,
            a_bias=lambda c, r: nn.Parameter(torch.ones(c)),
            a=lambda c, r: matrix(c, units(c, r)),
            net=lambda c, r: nn.ModuleDict({"z": nn.Linear(c, units(c, r))}),
        ),
    ],
    "channel.se_parameters": [[2304, 108], (2 * 96**2 / 8, 12 + 96), torch.tensor([2304, 108])],
    "channel.gated_block": [
        lambda x, branch, gate, shortcut: (shortcut(x) + gate(branch(x))).clamp(min=0)
    ],
    "channel.MeanMaxGate": [
        module(
            lambda self, x: (
                x * (self.mlp(x.mean((2, 3), True)) + self.mlp(x.amax((2, 3), True))).sigmoid()
            ),
            mlp=lambda c, r: nn.Sequential(*convolutions(c, r)),
        ),
        module(pooled_together, **BACKWARDS),
        module(hidden_units_summed, **BACKWARDS),
    ],
    "channel.eca_kernel": [
        kernel_nearest_odd,
        lambda x: int((math.log2(x.size(1)) + 1) // 2) | 1,
        lambda x: 2 * math.floor((math.log2(x.shape[1]) + 1) / 4) + 1,
    ],
    "channel.ECAGate": [
        module(eca_unfolded, kernel=lambda c, k: nn.Parameter(torch.zeros(k))),
        module(
            eca_of_the_authors,
            conv=lambda c, k: nn.Conv1d(1, 1, k, padding=(k - 1) // 2, bias=False),
        ),
    ],
    "channel.reweigh": [
        lambda x, down, up: (
            x * F.linear(F.linear(x.mean((2, 3)), down).relu(), up).sigmoid()[..., None, None]
        ),
        reweigh_einsum,
        reweigh_by_loop,
    ],
}


@pytest.mark.parametrize("turned", [(), ("w1",), ("w2",), ("w1", "w2")])
@pytest.mark.parametrize(("name", "looks"), [("channel.SEGate", 1), ("channel.MeanMaxGate", 2)])
def test_matrices_stored_as_in_out_are_named(name, looks, turned):
    def forward(self, x):
        w1, w2 = (w if n in turned else w.T for n, w in (("w1", self.w1), ("w2", self.w2)))
        pooled = (x.mean((2, 3)), x.amax((2, 3)))[:looks]
        logits = sum((z @ w1 + self.b1).relu() @ w2 + self.b2 for z in pooled)
        return x * logits.sigmoid()[..., None, None]

    result = exercise(name).check(own_weights(forward, *turned))
    assert result.mistake == ("weights-turned" if turned else None), result.message


@pytest.mark.parametrize("name", ["channel.SEGate", "channel.MeanMaxGate", "channel.ECAGate"])
def test_inputs_of_modules(name):
    inputs = exercise(name).inputs()
    shapes = [arguments[-1].shape for arguments in inputs]
    assert {arguments[2] for arguments in inputs} == {True, False}, "both modes"
    assert any(n > 1 and c == 1 for n, c, _, _ in shapes) and any(n == 1 for n, *_ in shapes)
    assert any(c % setting for c, setting, *_ in inputs)
    assert name == "channel.ECAGate" or any(c < reduction for c, reduction, *_ in inputs)


# The solutions and the chapter's facts -----------------------------------------------------------


def test_solutions_agree_with_the_course():
    torch.manual_seed(0)
    x = torch.randn(3, 12, 5, 4)
    for name, setting, theirs in (
        ("SEGate", 4, SqueezeExcitation(12, 4)),
        ("MeanMaxGate", 4, ChannelAttention(12, 4)),
        ("ECAGate", 3, ECA(12, 3)),
    ):
        ours = exercise(f"channel.{name}").reference(12, setting)
        values = ours.state_dict().values()
        theirs.load_state_dict(dict(zip(theirs.state_dict(), values, strict=True)))
        torch.testing.assert_close(ours(x), theirs(x))
    for channels in (1, 2, 6, 16, 24, 32, 48, 64, 128, 256, 512, 1024, 2048):
        kernel = exercise("channel.eca_kernel").reference(torch.empty(1, channels, 1, 1))
        assert kernel == ECA(channels).conv.kernel_size[0] and kernel % 2 == 1
    parameters = list(SqueezeExcitation(96, 8).parameters())
    found = tuple(sum(p.numel() for p in parameters if p.ndim == n) for n in (2, 1))
    assert found == exercise("channel.se_parameters").reference()


def test_the_gate_of_the_courses_block_is_where_the_exercise_puts_it():
    torch.manual_seed(0)
    block = ResidualBlock(4, 6, attention=lambda c: SqueezeExcitation(c, 2)).eval()
    x = torch.randn(2, 4, 7, 5)
    branch = nn.Sequential(block.conv1, block.norm1, nn.ReLU(), block.conv2, block.norm2)
    ex = exercise("channel.gated_block")
    expected = ex.reference(x, branch, block.attention, block.shortcut)
    torch.testing.assert_close(block(x), expected)
    after, _ = ex.slips["gate-after-the-addition"]
    assert not torch.allclose(after(x, branch, block.attention, block.shortcut), expected)
