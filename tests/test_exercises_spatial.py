"""Chapter 04: right answers written differently pass, half-right ones are caught, facts hold."""

import math

import pytest
import torch
from einops import rearrange, reduce
from torch import nn
from torch.nn import functional as F

from course_utils import explain
from course_utils.attention import CBAM, ChannelAttention, SpatialAttention, own_random_stream
from course_utils.datasets import phantoms
from course_utils.exercises import exercise
from course_utils.senet import ResidualBlock


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "progress.json"))


# Right answers written differently ---------------------------------------------------------------


def pooled_einops(x):
    return torch.cat([reduce(x, "n c h w -> n 1 h w", how) for how in ("mean", "max")], 1)


def pooled_einsum(x):
    mean = torch.einsum("nchw->nhw", x) / x.shape[1]
    return torch.stack((mean, torch.max(x, dim=1)[0]), dim=1)


def pooled_through_sorting(x):
    return torch.stack([x.sum(1) / x.size(1), x.sort(1, descending=True)[0][:, 0]], 1)


def pooled_by_pooling_layers(x):
    flat = rearrange(x, "n c h w -> n (h w) c")
    both = torch.cat([F.adaptive_avg_pool1d(flat, 1), F.adaptive_max_pool1d(flat, 1)], 2)
    return rearrange(both, "n (h w) two -> n two h w", h=x.shape[2])


def pooled_into_an_empty_tensor(x):
    n, _, height, width = x.shape
    result = x.new_empty(n, 2, height, width)
    result[:, 0], result[:, 1] = x.mean(1), x.amax(1)
    return result


class PoolModule(nn.Module):
    def forward(self, x):
        return torch.concat([torch.mean(x, 1, True), torch.max(x, 1, True).values], 1)


class SameGate(nn.Module):
    def __init__(self, kernel_size=7):
        super().__init__()
        self.weigh = nn.Sequential(nn.Conv2d(2, 1, kernel_size, padding="same"), nn.Sigmoid())

    def forward(self, x):
        return self.weigh(pooled_einsum(x))


class PaddedByHand(nn.Module):
    def __init__(self, kernel_size):
        super().__init__()
        self.reach = (kernel_size - 1) // 2
        self.kernel = nn.Parameter(torch.zeros(1, 2, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        padded = F.pad(pooled_einops(x), [self.reach] * 4)
        return 1 / (1 + torch.exp(-F.conv2d(padded, self.kernel, self.bias)))


class Unfolded(PaddedByHand):
    def forward(self, x):
        size = 2 * self.reach + 1
        patches = F.unfold(pooled_einops(x), size, padding=self.reach)  # (N, 2 k k, H W)
        logits = torch.einsum("k,nkp->np", self.kernel.flatten(), patches) + self.bias
        return logits.sigmoid().unflatten(1, x.shape[2:])[:, None]


class AuthorsOwnStyle(nn.Module):
    """Names and layers as in the repositories: a compressing module, relu=False, a scale."""

    def __init__(self, kernel_size):
        super().__init__()
        self.compress = PoolModule()
        self.spatial = nn.Conv2d(2, 1, kernel_size, stride=1, padding=(kernel_size - 1) // 2)

    def forward(self, x):
        return torch.sigmoid(self.spatial(self.compress(x)))


def gate_of(weights):
    class Gate(weights):
        def forward(self, x):
            return x * super().forward(x)

    return Gate


def pointing_flat(maps, masks):
    maps, masks = maps.flatten(1), masks.flatten(1).double()
    top = (maps >= maps.max(1, keepdim=True).values).double()
    share = torch.einsum("np,np->n", top, masks) / top.sum(1)
    share[masks.sum(1) == 0] = float("nan")
    return share


def pointing_loop(maps, masks):
    found = []
    for m, s in zip(maps, masks, strict=True):
        found.append(s.bool()[m == m.max()].float().mean() if s.any() else torch.tensor(math.nan))
    return torch.stack(found)


def enrichment_of_means(maps, masks):
    found = [m[s.bool()].mean() / m.mean() for m, s in zip(maps, masks, strict=True)]
    return torch.stack(found)


def enrichment_einsum(maps, masks):
    inside = masks.double()
    share = torch.einsum("nhw,nhw->n", maps.double(), inside) / maps.double().sum((1, 2))
    return torch.where(inside.sum((1, 2)) > 0, share / inside.mean((1, 2)), math.nan)


def enrichment_normalised_first(maps, masks):
    maps = maps / maps.sum((-2, -1), keepdim=True) * maps[0].numel()
    return (maps * masks).sum((-2, -1)) / masks.sum((-2, -1))


class BlockOfLayers(nn.Module):
    """Both halves written by hand: 1x1 convolutions, one for mean and maximum."""

    def __init__(self, channels, reduction, kernel_size):
        super().__init__()
        hidden = channels // reduction
        self.down, self.up = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, channels, 1)
        self.conv = nn.Conv2d(2, 1, kernel_size, padding="same")

    def forward(self, x):
        pooled = (x.mean((2, 3), keepdim=True), F.adaptive_max_pool2d(x, 1))
        x = x * sum(self.up(self.down(p).relu()) for p in pooled).sigmoid()
        return x * self.conv(pooled_einsum(x)).sigmoid()


class HalvesInARow(nn.Sequential):
    def __init__(self, channels, reduction, kernel_size):
        super().__init__(ChannelAttention(channels, reduction), SpatialAttention(kernel_size))


def block_of_course(channels, reduction, kernel_size):
    return CBAM(channels, reduction, kernel_size)


def intervene_through_a_hook(gate, x, change):
    handle = gate.register_forward_hook(lambda g, given, out: given[0] * change(g.weights(*given)))
    try:
        return gate(x)
    finally:
        handle.remove()


def intervene_through_einsum(gate, x, change):
    return torch.einsum("nchw,nhw->nchw", x, change(gate.weights(x))[:, 0])


RIGHT = {
    "pool_channels": [
        pooled_einops,
        pooled_einsum,
        pooled_through_sorting,
        pooled_by_pooling_layers,
        pooled_into_an_empty_tensor,
        PoolModule,
        PoolModule(),
    ],
    "CopiedGate": [SameGate, PaddedByHand, Unfolded, AuthorsOwnStyle, SameGate(3)],
    "gate_parameters": [99, 99.0, torch.tensor(99), 2 * 49 + 1],
    "SpatialGate": [
        SpatialAttention,
        lambda kernel_size: SpatialAttention(kernel_size),
        *map(gate_of, (SameGate, PaddedByHand, Unfolded, AuthorsOwnStyle)),
    ],
    "seen_in_both_orders": [[2.5, 4, 4.5, 8], (2.5, 4.0, 4.5, 8.0), torch.tensor([2.5, 4, 4.5, 8])],
    "CBAMBlock": [CBAM, BlockOfLayers, HalvesInARow, block_of_course],
    "intervene": [intervene_through_a_hook, intervene_through_einsum],
    "pointing_game": [explain.pointing_game, pointing_flat, pointing_loop],
    "enrichment": [
        explain.enrichment,
        enrichment_of_means,
        enrichment_einsum,
        enrichment_normalised_first,
    ],
}


@pytest.mark.parametrize(
    ("name", "answer"), [(name, answer) for name, answers in RIGHT.items() for answer in answers]
)
def test_right_answers_written_differently_pass(name, answer):
    result = exercise(f"spatial.{name}").check(answer)
    assert result.passed, result.message


# Half-right answers and two mistakes at once ------------------------------------------------------


def mistake_of(name, answer):
    result = exercise(f"spatial.{name}").check(answer)
    assert not result.passed
    return result.mistake, result.message


def test_numpy_and_lists_are_named():
    assert mistake_of("pool_channels", lambda x: pooled_einsum(x).numpy())[0] == (
        "numpy-instead-of-tensor"
    )
    assert mistake_of("pointing_game", lambda m, s: pointing_flat(m, s).tolist())[0] == (
        "list-instead-of-tensor"
    )
    assert mistake_of("enrichment", lambda m, s: 1.0)[0] == "number-instead-of-tensor"


def test_one_image_only_and_square_only_are_named():
    def first_image(x):
        x = x[0]
        return torch.stack([x.mean(0), x.amax(0)])[None]

    assert mistake_of("pool_channels", first_image)[0] == "right-only-for-batch-of-one"

    class SquareOnly(nn.Module):
        def __init__(self, kernel_size):
            super().__init__()
            self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2)

        def forward(self, x):
            n, _, height, _ = x.shape
            weights = self.conv(pooled_einsum(x)).sigmoid().reshape(n, 1, -1)
            return x * weights[:, :, : height * height].view(n, 1, height, height)

    assert mistake_of("SpatialGate", SquareOnly)[0] == "right-only-for-square"


def test_bias_and_other_parameters_are_named():
    class NoBias(nn.Module):
        def __init__(self, kernel_size):
            super().__init__()
            self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)

        def forward(self, x):
            return self.conv(pooled_einsum(x)).sigmoid()

    assert mistake_of("CopiedGate", NoBias)[0] == "missing-bias"

    class Normed(SameGate):
        def __init__(self, kernel_size):
            super().__init__(kernel_size)
            self.weigh.insert(1, nn.BatchNorm2d(1))

    assert not exercise("spatial.CopiedGate").check(Normed).passed


def test_the_snippet_of_the_notebook_is_the_unmended_one():
    class Snippet(nn.Module):
        def __init__(self, kernel_size=7):
            super().__init__()
            padding = 3 if kernel_size == 7 else 1
            self.conv = nn.Conv2d(
                in_channels=1, out_channels=1, kernel_size=kernel_size, padding=padding
            )

        def forward(self, x):
            mean = torch.mean(x, dim=1, keepdim=True)
            peak, _ = torch.max(x, dim=1, keepdim=True)
            return torch.sigmoid(self.conv(torch.cat([mean, peak], dim=1)))

    mistake, message = mistake_of("CopiedGate", Snippet)
    assert mistake == "unmended"
    assert "to have 1 channels, but got 2 channels" in message
    with pytest.raises(RuntimeError, match="to have 1 channels, but got 2 channels"):
        Snippet()(torch.randn(8, 32, 16, 16))


def test_two_mistakes_at_once_name_one():
    def swapped_sum(x):
        return torch.stack([x.amax(1), x.sum(1)], 1)

    assert not exercise("spatial.pool_channels").check(swapped_sum).passed

    def averaged_share(maps, masks):
        return explain.energy_share(maps, masks).nanmean()

    assert not exercise("spatial.enrichment").check(averaged_share).passed

    def argmax_and_empty_zero(maps, masks):
        return masks.flatten(1).gather(1, maps.flatten(1).argmax(1, keepdim=True))[:, 0].float()

    assert mistake_of("pointing_game", argmax_and_empty_zero)[0] == "argmax-only"


class Strange(nn.Module):
    def __init__(self, kernel_size):
        super().__init__()
        raise SystemExit(3)


@pytest.mark.parametrize("name", list(RIGHT))
@pytest.mark.parametrize(
    "answer",
    [3, "max", [], {}, print, object(), nn.Identity(), nn.Conv2d(2, 1, 3), lambda *a: None,
     lambda *a: a[0], lambda *a: 1 / 0, lambda *a: a, Strange, int, torch.zeros(3, 3)],
    ids=str,
)  # fmt: skip
def test_any_answer_is_judged(name, answer):
    result = exercise(f"spatial.{name}").check(answer)
    assert not result.passed and result.message and result.mistake != "not-judged"


@pytest.mark.parametrize("seed", range(5))
def test_inputs_hold_what_they_are_meant_to(seed):
    inputs = exercise("spatial.pointing_game").inputs(seed)
    large = [(maps, masks.bool()) for maps, masks in inputs if len(maps) > 3]
    for maps, masks in large:
        assert (maps[1] < 0).all() and not masks[3].any() and len(maps[2].unique()) == 1
        second, first = maps[0].flatten().sort().values[-2:]
        assert 0.001 < first - second < 0.004  # nearly a tie, across the border of the mask
        assert masks[0][maps[0] >= second].sum() == 1
    assert any((maps == maps.amax((1, 2), keepdim=True)).sum() > len(maps) for maps, _ in inputs)
    assert {masks.dtype for _, masks in inputs} == {torch.bool, torch.uint8}
    for maps, _ in exercise("spatial.enrichment").inputs(seed):
        assert (maps > 0).all()
    kernels = [k for k, _ in exercise("spatial.CopiedGate").inputs(seed)]
    assert {1, 3, 5, 7} <= set(kernels)
    assert any(k > x.shape[-1] for k, x in exercise("spatial.CopiedGate").inputs(seed))


# Values to predict --------------------------------------------------------------------------------


def test_values_are_what_running_it_gives():
    count = sum(p.numel() for p in SpatialAttention(7).parameters())
    assert exercise("spatial.gate_parameters").reference() == count
    spot = torch.tensor([[0.0, 1, 0, 1], [1, 2, 6, 2], [0, 2, 8, 3], [1, 0, 3, 2]])
    assert (spot.sum(), spot.mean(), spot.max()) == (32, 2, 8)
    x = torch.stack([spot, torch.ones(4, 4)])[None]
    weighed = x * torch.tensor([0.5, 1]).view(1, 2, 1, 1)
    found = [v[0, 2, 2].item() for v in (weighed.mean(1), weighed.amax(1), x.mean(1), x.amax(1))]
    assert list(exercise("spatial.seen_in_both_orders").reference()) == found


# Facts that the chapter states --------------------------------------------------------------------


def test_a_gate_before_the_addition_lets_the_shortcut_pass():
    block = ResidualBlock(4, 4, attention=lambda channels: SpatialAttention(3)).eval()
    block.attention.conv.bias.data.fill_(-50)
    x = torch.rand(2, 4, 6, 6)
    torch.testing.assert_close(block(x), x)
    assert block.attention(block(x)).abs().max() < 1e-15


def test_a_norm_puts_about_half_of_the_places_above_one_half():
    for seed in range(8):
        torch.manual_seed(seed)
        gate = SpatialAttention(7, norm=nn.BatchNorm2d)
        weights = gate.weights(F.relu(torch.randn(8, 16, 24, 24)))
        assert 0.4 < (weights > 0.5).float().mean() < 0.6


def test_the_map_does_not_depend_on_the_layers_behind_it():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), SpatialAttention(3), nn.Conv2d(4, 2, 3), nn.Flatten())
    x = torch.rand(2, 1, 8, 8)
    before = explain.attention_maps(net, x, SpatialAttention)["1"]
    out = net(x)
    net[2].reset_parameters()
    assert torch.equal(explain.attention_maps(net, x, SpatialAttention)["1"], before)
    assert not torch.allclose(net(x), out)


def test_a_gate_draws_its_weights_from_a_stream_of_its_own():
    found = []
    for gate in (nn.Identity, SpatialAttention):
        torch.manual_seed(0)
        with own_random_stream():
            gate()
        found.append(nn.Conv2d(1, 1, 3).weight)
    assert torch.equal(*found)


def test_twins_differ_in_the_lesion_only():
    x, masks, y = phantoms.lesions(40, 64, seed=4, prevalence=0.5)
    twins, no_masks, no_labels = phantoms.lesions(40, 64, seed=4, prevalence=0.0)
    assert not no_labels.any() and not no_masks.any() and 5 < y.sum() < 35
    assert torch.equal(x[y == 0], twins[y == 0])
    changed = (x.int() - twins.int()).abs()[:, 0]
    assert (changed[y == 1][masks[y == 1] == 1] > 0).float().mean() > 0.9
    near = F.max_pool2d(masks[:, None].float(), 9, 1, 4)[:, 0]
    assert changed[near == 0].max() <= 1  # the soft border of the lesion, rounded
    assert masks[y == 0].sum() == 0


def test_one_shared_perceptron_and_the_sum_before_the_sigmoid():
    cbam = CBAM(6, 2)
    assert sum(p.numel() for p in cbam.channel.parameters()) == 2 * 6 * 3 + 3 + 6
    x = torch.randn(2, 6, 5, 4)
    judged = cbam.channel.mlp(x.mean((2, 3))) + cbam.channel.mlp(x.amax((2, 3)))
    torch.testing.assert_close(cbam.channel.weights(x)[:, :, 0, 0], judged.sigmoid())
    first = cbam.channel(x)
    torch.testing.assert_close(cbam(x), cbam.spatial(first))
    torch.testing.assert_close(cbam(x), x * cbam.weights(x))
    assert not torch.allclose(cbam(x), cbam.channel(cbam.spatial(x)))


def test_pairs_are_as_good_as_four_numbers():
    ex = exercise("spatial.seen_in_both_orders")
    a, b, c, d = ex.reference()
    assert ex.check(((a, b), (c, d))).passed
    assert ex.check(torch.tensor([[a, b], [c, d]])).passed


def test_mistakes_that_the_text_announces_are_named_alone():
    def product_compared(maps, masks):
        return ((maps * masks).amax((1, 2)) == maps.amax((1, 2))).float()

    def largest_amount(maps, masks):
        return pointing_flat(maps.abs(), masks)

    def product_compared_with_nan(maps, masks):
        hits = product_compared(maps, masks)
        hits[~masks.bool().any(2).any(1)] = math.nan
        return hits

    def stretched(maps, masks):
        low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
        return enrichment_of_means((maps - low) / (high - low), masks)

    def area_by_energy(maps, masks):
        share = (maps * masks).sum((1, 2)) / maps.sum((1, 2))
        return masks.float().mean((1, 2)) / share

    for name, answer, mistake in (
        ("pointing_game", product_compared, "masked-by-multiplying-only"),
        ("pointing_game", product_compared_with_nan, "masked-by-multiplying"),
        ("pointing_game", largest_amount, "largest-absolute-value"),
        ("enrichment", stretched, "stretched-first"),
        ("enrichment", area_by_energy, "upside-down"),
        ("gate_parameters", 25089, "two-maps-of-each-channel"),
        ("gate_parameters", 100, "two-biases"),
    ):
        found, message = mistake_of(name, answer)
        assert found == mistake and "more than one thing" not in message


def gate_with(channels=2, out=1, pool=pooled_einops, padding=lambda k: k // 2, end=torch.sigmoid):
    """The weights alone, as a learner would write the class, with one thing done differently."""

    class Gate(nn.Module):
        def __init__(self, kernel_size):
            super().__init__()
            self.conv = nn.Conv2d(channels, out, kernel_size, padding=padding(kernel_size))

        def forward(self, x):
            return end(self.conv(pool(x)))

    return Gate


def joined(axis, dim):
    return lambda x: torch.cat([x.mean(axis, keepdim=True), x.amax(axis, keepdim=True)], dim)


WRONG_GATES = {
    "padding-for-two-sizes": gate_with(padding=lambda k: {7: 3}.get(k, 1)),
    "padding-fixed": gate_with(padding=lambda k: 3),
    "padding-forgotten": gate_with(padding=lambda k: 0),
    "maps-added": gate_with(1, pool=lambda x: pooled_einops(x).sum(1, keepdim=True)),
    "joined-along-the-batch": gate_with(1, pool=joined(1, 0)),
    "two-maps": gate_with(out=2),
    "only-mean": gate_with(1, pool=lambda x: pooled_einops(x)[:, :1]),
    "only-maximum": gate_with(1, pool=lambda x: pooled_einops(x)[:, 1:]),
    "mean-twice": gate_with(pool=lambda x: pooled_einops(x)[:, [0, 0]]),
    "pooled-over-the-batch": gate_with(pool=lambda x: joined(0, 0)(x).transpose(0, 1)),
    "pooled-over-the-batch-joined": gate_with(pool=joined(0, 1)),
    "pooled-over-the-batch-in-place": gate_with(pool=joined(0, 0)),
    "softmax-over-places": gate_with(end=lambda z: z.flatten(1).softmax(1).view_as(z)),
    "softmax-over-one-channel": gate_with(end=lambda z: F.softmax(z, dim=1)),
    "sigmoid-twice": gate_with(end=lambda z: z.sigmoid().sigmoid()),
    "relu-before-sigmoid": gate_with(end=lambda z: F.relu(z).sigmoid()),
}


@pytest.mark.parametrize("name", ["CopiedGate", "SpatialGate"])
@pytest.mark.parametrize("mistake", list(WRONG_GATES))
def test_the_same_slip_is_named_in_both_gates(name, mistake):
    weights = WRONG_GATES[mistake]
    found, message = mistake_of(name, weights if name == "CopiedGate" else gate_of(weights))
    assert found == mistake and "more than one thing" not in message


def block_with(forward):
    class Block(nn.Module):
        def __init__(self, channels, reduction, kernel_size):
            super().__init__()
            self.s = SpatialAttention(kernel_size)
            self.c = ChannelAttention(channels, reduction)

        def forward(self, x):
            return forward(self.c, self.s, x)

    return Block


def channels_judged(judge):
    return block_with(lambda c, s, x: s(x * judge(c.mlp, x).sigmoid().view(*x.shape[:2], 1, 1)))


def nearly_highest(maps, masks):
    top = maps > maps.amax((1, 2), keepdim=True) - 0.01
    hits = (top & masks.bool()).sum((1, 2)) / top.sum((1, 2))
    return hits.masked_fill(~masks.bool().flatten(1).any(1), math.nan)


def within(tolerance):
    def pointing(maps, masks):
        top = maps >= maps.amax((1, 2), keepdim=True) - tolerance
        hits = (top & masks.bool()).sum((1, 2)) / top.sum((1, 2))
        return hits.masked_fill(~masks.bool().flatten(1).any(1), math.nan)

    return pointing


def close_to_the_highest(maps, masks):
    top = torch.isclose(maps, maps.amax((1, 2), keepdim=True))
    hits = (top & masks.bool()).sum((1, 2)) / top.sum((1, 2))
    return hits.masked_fill(~masks.bool().flatten(1).any(1), math.nan)


def pixel_of(choose):
    def pointing(maps, masks):
        chosen = [s[tuple(choose(m))].float() for m, s in zip(maps, masks, strict=True)]
        return torch.stack(chosen).masked_fill(masks.flatten(1).sum(1) == 0, math.nan)

    return pointing


class ThroughNumPy(AuthorsOwnStyle):
    def forward(self, x):
        return torch.from_numpy(super().forward(x).detach().numpy())


class WithoutGraph(AuthorsOwnStyle):
    def forward(self, x):
        with torch.no_grad():
            return super().forward(x)


WRONG = [
    ("CopiedGate", ThroughNumPy, "gate-cut-off"),
    ("SpatialGate", gate_of(WithoutGraph), "gate-cut-off"),
    (
        "CBAMBlock",
        block_with(lambda c, s, x: x * c.weights(x).detach() * s.weights(c(x)).detach()),
        "gate-cut-off",
    ),
    (
        "CopiedGate",
        gate_with(padding=lambda k: 3 if k == 7 else 2 if k == 5 else 1),
        "padding-for-3-sizes-else-1",
    ),
    (
        "CopiedGate",
        gate_with(padding=lambda k: {1: 0, 3: 1, 5: 2, 7: 3}[k]),
        "padding-for-4-sizes-else-None",
    ),
    ("CopiedGate", gate_with(padding=lambda k: k), "padding-of-the-kernel-and-more"),
    ("CopiedGate", gate_with(padding=lambda k: (k + 1) // 2), "padding-rounded-up"),
    ("pointing_game", within(1e-6), "nearly-highest-by-a-hair"),
    ("pointing_game", within(1e-4), "nearly-highest-by-a-hair"),
    ("pointing_game", within(1e-3), "nearly-highest-by-a-hair"),
    ("pointing_game", close_to_the_highest, "nearly-highest-by-a-hair"),
    ("pointing_game", pixel_of(lambda m: (m == m.max()).nonzero()[-1]), "last-of-ties"),
    (
        "pointing_game",
        pixel_of(lambda m: divmod(m.flatten().argsort()[-1].item(), m.shape[1])),
        "one-of-sorted-ties",
    ),
    (
        "pointing_game",
        pixel_of(lambda m: divmod(m.flatten().topk(1).indices.item(), m.shape[1])),
        "one-of-ties",
    ),
    ("pool_channels", joined(-1, 1), "pooled-over-the-last-axis-joined"),
    ("pool_channels", joined(-1, -1), "pooled-over-the-last-axis-in-place"),
    (
        "pool_channels",
        lambda x: torch.stack([x.mean(3), x.amax(3)], 1),
        "pooled-over-the-last-axis",
    ),
    ("pool_channels", joined(0, 1), "pooled-over-the-batch-joined"),
    ("pool_channels", joined(0, 0), "pooled-over-the-batch-in-place"),
    ("pointing_game", nearly_highest, "nearly-highest"),
    ("pointing_game", lambda m, s: pointing_loop((m * 100).round() / 100, s), "nearly-highest"),
    ("gate_parameters", 51, "one-kernel-two-biases"),
    ("gate_parameters", 196, "two-maps-out-no-bias"),
    ("gate_parameters", torch.tensor(197), "two-maps-out-one-bias"),
    ("seen_in_both_orders", [(8, 4.5), (4, 2.5)], "both-swapped"),
    ("seen_in_both_orders", [4.25, 8, 4.5, 8], "other-channel-halved"),
    ("seen_in_both_orders", [3.333, 4, 4.5, 8], "weighted-mean"),
    ("seen_in_both_orders", [4, 4, 8, 8], "spot-alone"),
    ("intervene", lambda g, x, change: g.weights(change(x)) * x, "map-of-changed-features"),
    ("intervene", lambda g, x, change: change(g(x)).mul(x), "changed-output-times-features"),
    ("CBAMBlock", block_with(lambda c, s, x: x * s.weights(c(x))), "channel-weights-lost"),
    ("CBAMBlock", block_with(lambda c, s, x: s.weights(c.weights(x))), "map-of-the-weights-alone"),
    (
        "CBAMBlock",
        block_with(lambda c, s, x: s.weights(c.weights(x)) * x),
        "features-by-map-of-the-weights",
    ),
    ("CBAMBlock", block_with(lambda c, s, x: c(c(x))), "channel-half-twice"),
    ("CBAMBlock", block_with(lambda c, s, x: s(c(c(x)))), "channels-weighed-twice"),
    (
        "CBAMBlock",
        channels_judged(lambda mlp, x: mlp(x.mean((2, 3)) + x.amax((2, 3)))),
        "pooled-features-added",
    ),
    ("CBAMBlock", channels_judged(lambda mlp, x: mlp(x.mean((2, 3)))), "mean-only"),
    ("CBAMBlock", channels_judged(lambda mlp, x: mlp(x.flatten(2).amax(2))), "maximum-only"),
]


@pytest.mark.parametrize(("name", "answer", "mistake"), WRONG, ids=[w[2] for w in WRONG])
def test_wrong_answers_written_differently_are_named(name, answer, mistake):
    found, message = mistake_of(name, answer)
    assert found == mistake and "more than one thing" not in message


def test_a_forgotten_return_is_told_from_an_empty_stub():
    def pointing_without_return(maps, masks):
        pointing_flat(maps, masks)

    def intervened_without_return(gate, x, change):
        x * change(gate.weights(x))

    for name, answer in (
        ("pointing_game", pointing_without_return),
        ("intervene", intervened_without_return),
        ("SpatialGate", gate_with(end=lambda z: None)),
        ("CBAMBlock", block_with(lambda c, s, x: None)),
    ):
        mistake, message = mistake_of(name, answer)
        assert mistake == "returned-none" and "`return` missing" in message


@pytest.mark.parametrize("name", ["CopiedGate", "SpatialGate"])
def test_layers_that_were_not_asked_for_are_named(name):
    def gate(mistake):
        class Gate(nn.Module):
            def __init__(self, kernel_size):
                super().__init__()
                wide = kernel_size - 1 if mistake == "padding-of-the-whole-kernel" else 0
                mode = "reflect" if mistake == "border-reflected" else "zeros"
                padding, bias = max(wide, kernel_size // 2), mistake != "norm"
                self.conv = nn.Conv2d(
                    2, 1, kernel_size, padding=padding, padding_mode=mode, bias=bias
                )
                self.norm = nn.Identity() if bias else nn.BatchNorm2d(1)

            def forward(self, x):
                weights = self.norm(self.conv(pooled_einops(x)))
                weights = weights if mistake == "no-sigmoid" else weights.sigmoid()
                return weights if name == "CopiedGate" else x * weights

        return Gate

    for mistake in ("padding-of-the-whole-kernel", "border-reflected", "norm", "no-sigmoid"):
        assert mistake_of(name, gate(mistake))[0] == mistake
    if name == "CopiedGate":
        assert mistake_of(name, gate_of(SameGate))[0] == "multiplied-at-once"


def test_both_libraries_have_a_norm_and_only_the_order_differs():
    cbam_of_timm = pytest.importorskip("timm.layers.cbam")
    theirs = cbam_of_timm.SpatialAttn(7)
    assert isinstance(theirs.conv.bn, nn.BatchNorm2d) and theirs.conv.conv.bias is None
    bare, normed = SpatialAttention(7), SpatialAttention(7, norm=nn.BatchNorm2d)
    with pytest.raises(RuntimeError, match=r"conv\.bias"):
        bare.load_state_dict(normed.state_dict())
    names = {"conv.conv": "conv", "conv.bn": "norm"}
    renamed = {
        key.replace(old, new): value
        for key, value in theirs.state_dict().items()
        for old, new in names.items()
        if key.startswith(old)
    }
    normed.load_state_dict(renamed)
    x = torch.randn(2, 5, 9, 8)
    torch.testing.assert_close(normed.eval()(x), theirs.eval()(x))


# What a message says ------------------------------------------------------------------------------


def test_an_error_inside_the_course_points_at_the_learners_line():
    def answer(gate, x, change):
        return gate.weights(x.flatten())

    message = exercise("spatial.intervene").check(answer).message
    assert "of your code: return gate.weights(x.flatten())" in message


def test_a_gate_left_changed_is_named_and_no_exception_is_told():
    def replaced(gate, x, change):
        weights = gate.weights
        gate.weights = lambda x: change(weights(x))
        return gate(x)

    def put_back(gate, x, change):
        weights = gate.weights
        gate.weights = lambda x: change(weights(x))
        try:
            return gate(x)
        finally:
            del gate.weights

    result = exercise("spatial.intervene").check(replaced)
    assert result.mistake == "gate-changed" and "raised" not in result.message
    assert exercise("spatial.intervene").check(put_back).passed


def test_a_lazy_layer_is_told_that_shapes_are_needed():
    class Gate(nn.Module):
        def __init__(self, kernel_size):
            super().__init__()
            self.conv = nn.LazyConv2d(1, kernel_size, padding=kernel_size // 2)

        def forward(self, x):
            pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
            return x * self.conv(pooled).sigmoid()

    message = exercise("spatial.SpatialGate").check(Gate).message
    assert "lazy layer has no shape" in message and "nn.LazyConv2d" in message
