"""Maps through hooks, and their scores against a truth, with ties, empty masks and baselines."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from course_utils import maps
from course_utils.attention import CBAM, AttentionGate, SpatialAttention, SqueezeExcitation


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


class Net(nn.Module):
    """Two gates, one of them nested, and a head."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2, padding=1), SpatialAttention(3))
        self.norm = nn.BatchNorm2d(4)
        self.second = CBAM(4, 2, 3)

    def forward(self, x):
        return self.second(self.norm(self.first(x))).mean((1, 2, 3))[:, None]


# Maps of a model ---------------------------------------------------------------------------------


def test_maps_are_those_that_the_modules_weigh_with(rng):
    net, x = Net().eval(), torch.rand(5, 1, 12, 8, generator=rng)
    found = maps.attention_maps(net, x, SpatialAttention)
    assert set(found) == {"first.1", "second.spatial"}
    with torch.no_grad():
        before = net.first[0](x)
        expected = net.first[1].weights(before)
        inner = net.norm(net.first(x))
        second = net.second.spatial.weights(net.second.channel(inner))
    torch.testing.assert_close(found["first.1"], expected)
    torch.testing.assert_close(found["second.spatial"], second)
    assert found["first.1"].shape == (5, 1, 6, 4)
    torch.testing.assert_close(before * found["first.1"], net.first(x))
    assert set(maps.attention_maps(net, x, CBAM)) == {"second"}


def test_maps_of_channel_gates_and_of_a_gate_with_two_inputs(rng):
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.squeeze, self.gate = SqueezeExcitation(4, 2), AttentionGate(4, 4)

        def forward(self, x):
            x = self.squeeze(x)
            return self.gate(x, x[:, :, ::2, ::2]).mean((1, 2, 3))

    net, x = Skip(), torch.rand(3, 4, 6, 6, generator=rng)
    assert maps.attention_maps(net, x, SqueezeExcitation)["squeeze"].shape == (3, 4, 1, 1)
    gate = maps.attention_maps(net, x, AttentionGate)["gate"]
    with torch.no_grad():
        skip = net.squeeze(x)
        torch.testing.assert_close(gate, net.gate.weights(skip, skip[:, :, ::2, ::2]))


def test_maps_leave_the_model_as_it_was_and_do_not_depend_on_the_batches(rng):
    net, x = Net().train(), torch.rand(7, 1, 8, 8, generator=rng)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = maps.attention_maps(net, x, SpatialAttention)
    assert net.training and not any(module._forward_hooks for module in net.modules())
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name
    for size in (1, 3, 7, 100):
        parts = maps.attention_maps(net, x, SpatialAttention, batch_size=size)
        for name in found:
            torch.testing.assert_close(parts[name], found[name])
            assert not parts[name].requires_grad


def test_maps_of_bytes_are_those_of_a_255th(rng):
    net, x = Net(), torch.randint(0, 256, (3, 1, 8, 8), generator=rng, dtype=torch.uint8)
    for name, found in maps.attention_maps(net, x, SpatialAttention).items():
        expected = maps.attention_maps(net, x.float() / 255, SpatialAttention)[name]
        torch.testing.assert_close(found, expected)


def test_a_frozen_copy_with_hooks_of_its_own_keeps_them(rng):
    net, x, calls = Net(), torch.rand(2, 1, 8, 8, generator=rng), []
    net.first[1].register_forward_hook(lambda *_: calls.append(1))
    maps.attention_maps(net, x, SpatialAttention)
    maps.attention_maps(net, x, SpatialAttention)
    assert len(calls) == 2


def test_a_model_without_such_a_module_is_named():
    with pytest.raises(ValueError, match=r"holds no SpatialAttention.*Conv2d"):
        maps.attention_maps(
            nn.Sequential(nn.Conv2d(1, 1, 1)), torch.rand(1, 1, 4, 4), SpatialAttention
        )


def test_hooks_are_removed_when_the_model_fails():
    net = Net()
    with pytest.raises(RuntimeError):
        maps.attention_maps(net, torch.rand(2, 3, 8, 8), SpatialAttention)
    assert not any(module._forward_hooks for module in net.modules())


def test_a_module_that_the_model_does_not_call_is_named():
    class Lazy(Net):
        def forward(self, x):
            return self.first(x).mean((1, 2, 3))

    with pytest.raises(ValueError, match=r"second\.spatial.* not called"):
        maps.attention_maps(Lazy(), torch.rand(2, 1, 8, 8), SpatialAttention)


def test_a_module_called_twice_is_named():
    class Twice(Net):
        def forward(self, x):
            return self.first[1](self.first(x)).mean((1, 2, 3))

    with pytest.raises(ValueError, match=r"first\.1.* more than once"):
        maps.attention_maps(Twice(), torch.rand(2, 1, 8, 8), SpatialAttention)


def test_at_size_keeps_constants_and_takes_both_forms(rng):
    drawn = torch.rand(3, 1, 4, 5, generator=rng)
    resized = maps.at_size(drawn, 16, 20)
    assert resized.shape == (3, 16, 20)
    assert torch.equal(resized, maps.at_size(drawn[:, 0], 16, 20))
    assert torch.equal(maps.at_size(drawn, 4, 5), drawn[:, 0])
    torch.testing.assert_close(maps.at_size(torch.full((1, 1, 3, 3), 0.3), 9, 9).unique().mean(),
                               torch.tensor(0.3))  # fmt: skip
    low, high = drawn.amin((1, 2, 3)), drawn.amax((1, 2, 3))
    assert (resized.amin((1, 2)) >= low).all() and (resized.amax((1, 2)) <= high).all()
    assert maps.at_size(drawn.half(), 8, 8).dtype == torch.float32


def test_at_size_does_not_move_a_peak():
    drawn = torch.zeros(1, 1, 8, 8)
    drawn[0, 0, 2, 5] = 1
    found = maps.at_size(drawn, 32, 32)[0]
    i, j = (found == found.max()).nonzero().float().mean(0).tolist()
    assert (i, j) == pytest.approx((2.5 * 4 - 0.5, 5.5 * 4 - 0.5))


def test_at_size_names_a_map_for_every_channel():
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 4\).*one map"):
        maps.at_size(torch.rand(2, 3, 4, 4), 8, 8)
    with pytest.raises(ValueError, match="one map"):
        maps.at_size(torch.rand(4, 4), 8, 8)


# Scores of one map -------------------------------------------------------------------------------


def test_pointing_game_by_hand():
    drawn = torch.tensor([[[1.0, 2], [3, 4]]]).repeat(4, 1, 1)
    masks = torch.zeros(4, 2, 2, dtype=torch.uint8)
    masks[0, 1, 1] = masks[1, 1, 0] = 1
    masks[2] = 1
    found = maps.pointing_game(drawn, masks)
    assert found[:3].tolist() == [1, 0, 1] and math.isnan(found[3])
    assert torch.equal(found[:3], maps.pointing_game(drawn, masks.bool())[:3])
    negative = maps.pointing_game(drawn - 10, masks)
    torch.testing.assert_close(negative, found, equal_nan=True)


@pytest.mark.parametrize(("inside", "expected"), [(1, 1 / 3), (2, 2 / 3), (3, 1.0), (0, 0.0)])
def test_ties_count_by_their_share(inside, expected):
    drawn = torch.tensor([[[5.0, 0, 5], [0, 5, 0]]])
    mask = torch.zeros(1, 2, 3)
    for i, j in ((0, 0), (0, 2), (1, 1))[:inside]:
        mask[0, i, j] = 1
    mask[0, 1, 0] = 1
    assert maps.pointing_game(drawn, mask).item() == pytest.approx(expected)


def test_a_uniform_map_scores_as_chance(rng):
    masks = (torch.rand(20, 7, 9, generator=rng) < 0.3).float()
    drawn = torch.full((20, 7, 9), 0.2)
    area = masks.double().mean((1, 2))
    torch.testing.assert_close(maps.pointing_game(drawn, masks), area)
    torch.testing.assert_close(maps.energy_share(drawn, masks), area)
    torch.testing.assert_close(maps.enrichment(drawn, masks), torch.ones(20).double())


def test_energy_and_enrichment_by_hand():
    drawn = torch.tensor([[[1.0, 2], [3, 4]]])
    mask = torch.tensor([[[0, 0], [0, 1]]])
    assert maps.energy_share(drawn, mask).item() == pytest.approx(0.4)
    assert maps.enrichment(drawn, mask).item() == pytest.approx(1.6)
    all_of_it = torch.ones(1, 2, 2)
    assert maps.energy_share(drawn, all_of_it).item() == pytest.approx(1)
    assert maps.enrichment(drawn, all_of_it).item() == pytest.approx(1)


def test_a_map_equal_to_its_mask_has_the_highest_enrichment(rng):
    masks = (torch.rand(6, 8, 8, generator=rng) < 0.2).float()
    masks[:, 0, 0] = 1
    area = masks.double().mean((1, 2))
    torch.testing.assert_close(maps.energy_share(masks, masks), torch.ones(6).double())
    torch.testing.assert_close(maps.enrichment(masks, masks), 1 / area)
    torch.testing.assert_close(maps.enrichment(1 - masks, masks), torch.zeros(6).double())


def test_scores_do_not_depend_on_brightness_nor_on_other_cases(rng):
    drawn = torch.rand(5, 6, 7, generator=rng) + 0.1
    masks = torch.rand(5, 6, 7, generator=rng) < 0.3
    factors = torch.tensor([0.1, 1, 10, 100, 1000]).view(-1, 1, 1)
    for score in (maps.pointing_game, maps.energy_share, maps.enrichment):
        found = score(drawn, masks)
        torch.testing.assert_close(score(drawn * factors, masks), found, rtol=1e-5, atol=1e-6)
        each = torch.cat([score(m[None], s[None]) for m, s in zip(drawn, masks, strict=True)])
        torch.testing.assert_close(each, found)


def test_enrichment_is_the_mean_inside_by_the_mean(rng):
    drawn, masks = torch.rand(4, 5, 5, generator=rng), torch.rand(4, 5, 5, generator=rng) < 0.4
    expected = [m[s].mean() / m.mean() for m, s in zip(drawn, masks, strict=True)]
    torch.testing.assert_close(maps.enrichment(drawn, masks).float(), torch.stack(expected))


def test_large_images_of_half_precision_do_not_overflow():
    drawn = torch.full((1, 600, 600), 200.0, dtype=torch.float16)
    mask = torch.zeros(1, 600, 600)
    mask[:, :300] = 1
    assert maps.enrichment(drawn, mask).item() == pytest.approx(1)
    assert maps.energy_share(drawn, mask).item() == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["pointing_game", "energy_share", "enrichment"])
def test_an_empty_mask_gives_nan_there_only(name, rng):
    drawn, masks = torch.rand(3, 4, 4, generator=rng), torch.ones(3, 4, 4)
    masks[1] = 0
    found = getattr(maps, name)(drawn, masks)
    assert found.isnan().tolist() == [False, True, False]
    assert found.shape == (3,)


def test_a_map_of_zeros_has_no_energy():
    drawn, mask = torch.zeros(1, 3, 3), torch.eye(3)[None]
    assert maps.energy_share(drawn, mask).isnan().all()
    assert maps.enrichment(drawn, mask).isnan().all()
    assert maps.pointing_game(drawn, mask).item() == pytest.approx(1 / 3)


@pytest.mark.parametrize("name", ["pointing_game", "energy_share", "enrichment"])
def test_what_cannot_be_scored_is_named(name):
    score, mask = getattr(maps, name), torch.ones(2, 4, 4)
    with pytest.raises(ValueError, match="at_size"):
        score(torch.rand(2, 1, 4, 4), mask)
    with pytest.raises(ValueError, match="at_size"):
        score(torch.rand(2, 2, 2), mask)
    for bad in (math.nan, math.inf):
        drawn = torch.rand(2, 4, 4)
        drawn[1, 2, 3] = bad
        with pytest.raises(ValueError, match="not finite"):
            score(drawn, mask)
    with pytest.raises(ValueError, match="0 and 1"):
        score(torch.rand(2, 4, 4), 0.5 * mask)
    with pytest.raises(ValueError, match="0 and 1"):
        score(torch.rand(2, 4, 4), 255 * mask)


@pytest.mark.parametrize("name", ["energy_share", "enrichment"])
def test_energy_cannot_be_negative(name):
    with pytest.raises(ValueError, match="negative"):
        getattr(maps, name)(torch.tensor([[[-0.1, 1]]]), torch.ones(1, 1, 2))


# Baselines and the table --------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 7), (5, 12), (1, 1)])
def test_centre_prior_is_symmetric_and_highest_in_the_middle(height, width):
    prior = maps.centre_prior(height, width)
    assert prior.shape == (height, width) and prior.max().item() == pytest.approx(1)
    torch.testing.assert_close(prior, prior.flip(0))
    torch.testing.assert_close(prior, prior.flip(1))
    assert (prior > 0).all()
    assert prior[height // 2, width // 2] == prior.max()
    column = prior[: (height + 1) // 2, width // 2]
    assert (column.diff() >= 0).all()


def test_centre_prior_follows_the_shape_of_the_image_and_its_spread():
    wide = maps.centre_prior(40, 80)
    square = maps.centre_prior(40, 40)
    torch.testing.assert_close(wide[:, 40], square[:, 20], atol=5e-3, rtol=0)
    assert maps.centre_prior(20, 20, 0.1).sum() < maps.centre_prior(20, 20, 0.4).sum()


def numbers(text):
    """Mean, low and high out of "0.72 (0.64 to 0.79)"."""
    return [
        float(part) for part in text.replace("(", "").replace(")", "").replace("to", "").split()
    ]


def test_table_of_scores(rng):
    masks = (torch.rand(30, 6, 6, generator=rng) < 0.3).to(torch.uint8)
    masks[:, 0, 0], masks[5:10] = 1, 0
    drawn = {"mask": masks.float() + 1e-3, "uniform": torch.ones(6, 6),
            "random": torch.rand(30, 6, 6, generator=rng)}  # fmt: skip
    table = maps.scores(drawn, masks)
    assert list(table.index) == list(drawn)
    assert list(table.columns) == ["pointing game", "enrichment", "cases"]
    assert table["cases"].tolist() == [25, 25, 25]
    inside = masks.flatten(1).bool().any(1)
    for name, found in drawn.items():
        found = found.expand(30, 6, 6)[inside]
        for title, score in (("pointing game", maps.pointing_game),
                             ("enrichment", maps.enrichment)):  # fmt: skip
            mean, low, high = numbers(table.loc[name, title])
            assert mean == pytest.approx(score(found, masks[inside]).mean().item(), abs=0.006)
            assert low <= mean <= high
    assert table.loc["uniform", "enrichment"] == "1.00 (1.00 to 1.00)"
    assert numbers(table.loc["mask", "pointing game"])[0] == 1
    assert maps.scores(drawn, masks).equals(table), "the bootstrap has a seed of its own"


def test_table_with_a_map_that_is_zero_somewhere(rng):
    masks = torch.ones(4, 3, 3)
    masks[:, 0] = 0
    drawn = torch.rand(4, 3, 3, generator=rng)
    drawn[2] = 0
    table = maps.scores({"holes": drawn}, masks)
    assert "nan" not in table.to_string()


def test_table_names_what_does_not_fit(rng):
    masks = torch.ones(3, 4, 4)
    with pytest.raises(ValueError, match=r"bent.*\(2, 4, 4\)"):
        maps.scores({"bent": torch.rand(2, 4, 4)}, masks)
    with pytest.raises(ValueError, match="every mask is empty"):
        maps.scores({"any": torch.rand(3, 4, 4)}, torch.zeros(3, 4, 4))


def test_pointing_game_agrees_with_a_plain_loop(rng):
    drawn = (3 * torch.rand(12, 5, 4, generator=rng)).round()
    masks = torch.rand(12, 5, 4, generator=rng) < 0.35
    for map_, mask, found in zip(drawn.numpy(), masks.numpy(), maps.pointing_game(drawn, masks),
                                 strict=True):  # fmt: skip
        at = np.argwhere(map_ == map_.max())
        hits = [mask[i, j] for i, j in at]
        expected = math.nan if not mask.any() else sum(hits) / len(hits)
        assert found.item() == pytest.approx(expected, nan_ok=True)


def test_scores_of_no_image_are_none_and_arrays_are_named():
    nothing, one = torch.zeros(0, 4, 4), torch.ones(1, 4, 4)
    for score in (maps.pointing_game, maps.energy_share, maps.enrichment):
        assert score(nothing, nothing).shape == (0,)
        with pytest.raises(ValueError, match=r"Expected \(N, H, W\) for both"):
            score(one[:, :0], one[:, :0])
        with pytest.raises(ValueError, match=r"masks are given as ndarray\. Expected a tensor"):
            score(one, one.numpy())
    assert maps.at_size(nothing, 8, 8).shape == (0, 8, 8)
    with pytest.raises(ValueError, match="nothing to score"):
        maps.scores({"map": nothing}, nothing)
