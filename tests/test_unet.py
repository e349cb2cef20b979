"""U-Net and its matched control: any size, one switch, nothing else differs."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from course_utils.attention import AttentionGate
from course_utils.unet import UNet


def build(gate, seed=0, **size):
    torch.manual_seed(seed)
    return UNet(**({"width": 4, "levels": 3, "gate": gate} | size))


@pytest.mark.parametrize("gate", [None, AttentionGate])
@pytest.mark.parametrize("size", [(16, 16), (17, 23), (4, 4), (3, 30), (48, 64)])
def test_the_output_is_as_large_as_the_image(gate, size):
    model = build(gate, in_channels=3, outputs=2).eval()
    assert model(torch.rand(2, 3, *size)).shape == (2, 2, *size)


def test_monais_attention_unet_takes_other_sizes_only():
    from monai.networks.nets import AttentionUnet

    theirs = AttentionUnet(2, 1, 1, channels=(2, 2, 2, 2, 2), strides=(2, 2, 2, 2)).eval()
    assert theirs(torch.rand(1, 1, 96, 96)).shape == (1, 1, 96, 96)
    with pytest.raises(RuntimeError):
        theirs(torch.rand(1, 1, 100, 100))
    assert build(AttentionGate, levels=5).eval()(torch.rand(1, 1, 100, 100)).shape[2:] == (100, 100)
    more = AttentionUnet(2, 1, 1, channels=(2, 2, 2, 2, 2), strides=(2, 2, 2, 2, 2, 2))
    assert sum(p.numel() for p in more.parameters()) == sum(p.numel() for p in theirs.parameters())


def test_padding_repeats_the_border_and_is_cut_off_again():
    model = build(None).eval()
    x = torch.rand(1, 1, 13, 10)
    padded = torch.nn.functional.pad(x, (0, 2, 0, 3), mode="replicate")
    torch.testing.assert_close(model(x), model(padded)[:, :, :13, :10])


def test_both_arms_start_from_equal_shared_weights():
    plain, gated = build(None).state_dict(), build(AttentionGate).state_dict()
    assert set(plain) < set(gated)
    for name, tensor in plain.items():
        assert torch.equal(tensor, gated[name]), name
    assert all(name.startswith("gates.") for name in set(gated) - set(plain))


def test_the_random_stream_behind_the_model_is_the_same_in_both_arms():
    build(None)
    after_plain = torch.rand(3)
    build(AttentionGate)
    assert torch.equal(after_plain, torch.rand(3))


def test_a_gate_that_is_wide_open_gives_the_plain_network():
    plain, gated = build(None).eval(), build(AttentionGate).eval()
    for gate in gated.gates:
        nn.init.zeros_(gate.psi[0].weight)
        nn.init.constant_(gate.psi[0].bias, 40.0)  # sigmoid(40) is 1 in float32
    x = torch.rand(2, 1, 16, 20)
    torch.testing.assert_close(plain(x), gated(x))


def test_the_gate_gets_the_skip_and_the_coarser_level_not_the_other_way_round():
    seen = []

    class Spy(nn.Module):
        def __init__(self, channels, gate_channels):
            super().__init__()
            self.channels = channels, gate_channels

        def forward(self, x, g):
            seen.append((x.shape[1:], g.shape[1:], self.channels))
            return x

    build(Spy).eval()(torch.rand(1, 1, 16, 24))
    assert seen == [((8, 8, 12), (16, 4, 6), (8, 16)), ((4, 16, 24), (8, 8, 12), (4, 8))]


def test_the_authors_arrangement_leaves_the_finest_skip_alone():
    def gate(channels, signal):
        return AttentionGate(channels, signal, channels, authors=True, norm=nn.BatchNorm2d)

    model = build(gate, gate_finest=False)
    kinds = [type(gate).__name__ for gate in model.gates]
    assert kinds == ["_Open", "AttentionGate"]
    assert model.gates[1].skip[0].stride == (2, 2)
    assert model.gates[1].skip[0].weight.shape[:2] == (8, 8), "as many inner channels as the skip"
    assert model(torch.rand(2, 1, 24, 16)).shape == (2, 1, 24, 16)


def test_norm_is_an_argument_and_the_model_can_be_copied():
    model = build(AttentionGate, norm=lambda c: nn.GroupNorm(2, c))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    x = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(copy.deepcopy(model)(x), model(x))


def test_all_parameters_get_a_gradient():
    model = build(AttentionGate)
    model(torch.rand(2, 1, 16, 16)).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_fewer_than_two_levels_are_refused():
    with pytest.raises(ValueError, match="expected at least 2 levels"):
        build(None, levels=1)


# Bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", [None, AttentionGate])
@pytest.mark.parametrize("shape", [(1, 1, 16, 16), (1, 4, 16, 16), (3, 16, 16), (1, 3, 8, 8, 8)])
def test_an_image_with_other_channels_or_axes_is_refused_with_what_was_expected(gate, shape):
    model = build(gate, in_channels=3)
    with pytest.raises(ValueError, match=r"Expected \(N, 3, H, W\)") as caught:
        model(torch.rand(shape))
    assert f"UNet got a tensor of shape {shape}" in str(caught.value)


@pytest.mark.parametrize("gate", [None, AttentionGate, partial(AttentionGate, authors=True)])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (3, 2), (7, 1)])
def test_an_image_smaller_than_the_stride_is_padded(gate, size):
    model = build(gate, levels=4).eval()
    x = torch.rand(2, 1, *size)
    assert model(x).shape == (2, 1, *size)
    whole = [-n % 8 for n in size]
    padded = torch.nn.functional.pad(x, (0, whole[1], 0, whole[0]), mode="replicate")
    torch.testing.assert_close(model(x), model(padded)[:, :, : size[0], : size[1]])


def test_an_image_without_pixels_is_refused():
    with pytest.raises(ValueError, match="H times W is 1 or more"):
        build(None)(torch.rand(1, 1, 0, 16))


def test_a_single_image_that_shrinks_to_one_pixel_cannot_train_batch_norm():
    model, x = UNet(width=4, levels=3), torch.rand(1, 1, 3, 4)
    with pytest.raises(ValueError, match=r"UNet in training mode: batch norm gets a single value"):
        model(x)
    assert model(torch.cat([x, x])).shape == (2, 1, 3, 4)
    assert model(torch.rand(1, 1, 3, 5)).shape == (1, 1, 3, 5)
    assert model.eval()(x).shape == x.shape
    grouped = UNet(width=4, levels=3, norm=lambda channels: nn.GroupNorm(1, channels))
    assert grouped(x).shape == x.shape
