"""The residual network and its matched control: one switch, nothing else differs."""

import copy

import pytest
import torch
from torch import nn

from course_utils.attention import SqueezeExcitation
from course_utils.senet import ResidualBlock, SEResNet


def build(attention, seed=0, **size):
    torch.manual_seed(seed)
    return SEResNet(attention=attention, **size)


@pytest.mark.parametrize(("height", "width", "channels"), [(28, 28, 1), (31, 45, 3), (64, 64, 1)])
def test_one_row_of_logits_per_image(height, width, channels):
    model = build(SqueezeExcitation, in_channels=channels, outputs=3, width=16).eval()
    assert model(torch.rand(2, channels, height, width)).shape == (2, 3)
    assert model(torch.rand(1, channels, height, width)).shape == (1, 3)


def test_both_arms_start_from_equal_shared_weights():
    """A gate inserted between layers would shift the random stream of those behind it."""
    plain, gated = build(None).state_dict(), build(SqueezeExcitation).state_dict()
    assert set(plain) < set(gated)
    for name, tensor in plain.items():
        assert torch.equal(tensor, gated[name]), name
    extra = set(gated) - set(plain)
    assert extra and all(".attention." in name for name in extra)


def test_gates_of_different_blocks_start_differently_and_follow_the_seed():
    gates = [block.attention.down.weight for block in build(SqueezeExcitation).blocks[:2]]
    assert not torch.equal(*gates)
    again = build(SqueezeExcitation).blocks[0].attention.down.weight
    other = build(SqueezeExcitation, seed=1).blocks[0].attention.down.weight
    assert torch.equal(gates[0], again) and not torch.equal(gates[0], other)


def test_the_random_stream_behind_the_model_is_the_same_in_both_arms():
    build(None)
    after_plain = torch.rand(3)
    build(SqueezeExcitation)
    assert torch.equal(after_plain, torch.rand(3))


def test_attention_stands_after_the_last_norm_and_before_the_addition():
    block = ResidualBlock(8, 8, attention=lambda channels: Halve()).eval()
    x = torch.rand(2, 8, 5, 5)
    body = block.norm2(block.conv2(torch.relu(block.norm1(block.conv1(x)))))
    torch.testing.assert_close(block(x), torch.relu(body / 2 + x))


class Halve(nn.Module):
    def forward(self, x):
        return x / 2


def test_a_gate_that_is_wide_open_gives_the_plain_network():
    plain, gated = build(None).eval(), build(SqueezeExcitation).eval()
    for block in gated.blocks:
        nn.init.zeros_(block.attention.up.weight)
        nn.init.constant_(block.attention.up.bias, 40.0)  # sigmoid(40) is 1 in float32
    x = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(plain(x), gated(x))


def test_parameters_of_the_gate_are_those_of_the_paper():
    plain = sum(p.numel() for p in build(None).parameters())
    gated = sum(p.numel() for p in build(SqueezeExcitation).parameters())
    layers = sum(2 * c * c // 16 + c // 16 + c for c in (32, 32, 64, 64, 128, 128))
    assert gated - plain == layers
    assert layers / plain < 0.02, "a third arm is needed where the gate adds more than 2%"


def test_norm_is_an_argument_and_the_model_can_be_copied():
    model = build(SqueezeExcitation, norm=lambda c: nn.GroupNorm(4, c))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    x = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(copy.deepcopy(model)(x), model(x))


def test_exposure_does_not_matter():
    model = build(SqueezeExcitation).eval()
    x = torch.rand(4, 1, 28, 28)
    torch.testing.assert_close(model(x), model(0.5 * x + 0.2), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_another_form_are_refused_with_what_was_expected(channels):
    model = build(SqueezeExcitation, in_channels=channels, width=16).eval()
    for shape in ((2, 4 - channels, 28, 28), (channels, 28, 28), (2, 28, 28)):
        with pytest.raises(ValueError, match=rf"Expected \(N, {channels}, H, W\)") as error:
            model(torch.rand(shape))
        assert str(shape) in str(error.value)


@pytest.mark.parametrize("small_images", [True, False])
@pytest.mark.parametrize("train", [True, False])
def test_the_smallest_size_works_and_below_it_is_named(small_images, train):
    for instance_norm, least in ((True, (1, 2)), (False, (1, 1))):
        size = {"width": 16, "instance_norm": instance_norm, "small_images": small_images}
        model = build(SqueezeExcitation, **size).train(train)
        for shape in (least, least[::-1], (2, 2), (3, 2)):
            found = model(torch.rand(2, 1, *shape))
            assert found.shape == (2, 1) and bool(torch.isfinite(found).all())
        for shape in ((0, 0), (0, 28), (28, 0), *([(1, 1)] if instance_norm else [])):
            message = rf"1, {shape[0]}, {shape[1]}\)\. .*where H times W is {least[1]} or more"
            with pytest.raises(ValueError, match=message):
                model(torch.rand(2, 1, *shape))


def test_with_the_usual_stem_it_is_se_resnet_18():
    """Its convolutions are those of timm's seresnet18; the SE layers, which have biases, aside."""
    timm = pytest.importorskip("timm")
    peer = timm.create_model("seresnet18", in_chans=3, num_classes=7)
    model = SEResNet(3, 7, 64, (2, 2, 2, 2), instance_norm=False, small_images=False)

    def kernels(network):
        convolutions = (m for m in network.modules() if isinstance(m, torch.nn.Conv2d))
        return sorted(tuple(c.weight.shape) for c in convolutions if c.bias is None)

    assert kernels(model) == kernels(peer)
    assert model.eval()(torch.rand(1, 3, 96, 64)).shape == (1, 7)
    assert model.stem(torch.rand(1, 3, 96, 64)).shape == (1, 64, 24, 16)


def test_without_instance_norm_exposure_reaches_the_network():
    x = torch.rand(2, 1, 28, 28)
    for instance_norm, same in ((True, True), (False, False)):
        torch.manual_seed(0)
        model = SEResNet(width=16, blocks=(1, 1, 1), instance_norm=instance_norm).eval()
        assert torch.allclose(model(x), model(0.5 * x + 0.2), atol=1e-3) == same


@pytest.mark.parametrize("small_images", [True, False])
def test_a_single_image_that_shrinks_to_one_pixel_cannot_train_batch_norm(small_images):
    model, x = (
        SEResNet(width=16, blocks=(1, 1, 1), small_images=small_images),
        torch.rand(1, 1, 4, 3),
    )
    with pytest.raises(ValueError, match="SEResNet in training mode: batch norm gets a single"):
        model(x)
    assert model(torch.cat([x, x])).shape == (2, 1)
    assert model(torch.rand(1, 1, 4, 5 if small_images else 17)).shape == (1, 1)
    assert model.eval()(x).shape == (1, 1)
