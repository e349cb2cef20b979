"""Each mechanism: its equation, parity with other libraries, and what it must survive."""

import copy
import inspect

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_utils import attention
from course_utils.attention import (
    CBAM,
    ECA,
    AttentionGate,
    ChannelAttention,
    SelfAttention2d,
    SpatialAttention,
    SqueezeExcitation,
    attention_weights,
    own_random_stream,
    scaled_dot_product_attention,
)

CHANNELS = 32
BUILD = {
    "SqueezeExcitation": lambda: SqueezeExcitation(CHANNELS, 4),
    "ECA": lambda: ECA(CHANNELS),
    "ChannelAttention": lambda: ChannelAttention(CHANNELS, 4),
    "SpatialAttention": lambda: SpatialAttention(),
    "SpatialAttention, norm": lambda: SpatialAttention(norm=nn.BatchNorm2d),
    "CBAM": lambda: CBAM(CHANNELS, 4),
    "AttentionGate": lambda: AttentionGate(CHANNELS, 12),
    "AttentionGate, norm": lambda: AttentionGate(CHANNELS, 12, norm=nn.BatchNorm2d),
    "AttentionGate, authors": lambda: AttentionGate(
        CHANNELS, 12, authors=True, norm=nn.BatchNorm2d
    ),
    "SelfAttention2d": lambda: SelfAttention2d(CHANNELS, heads=2),
}
WITH_BATCH_NORM = [name for name in BUILD if name.endswith(("norm", "authors"))]
GATES = [name for name in BUILD if name != "SelfAttention2d"]
every_module = pytest.mark.parametrize("name", BUILD)


def build(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    module = BUILD[name]()
    if name == "SelfAttention2d":  # it starts as the identity, which would hide mistakes
        nn.init.normal_(module.out.weight, std=0.3)
    return module


def inputs(name: str, batch: int = 2, height: int = 6, width: int = 10, seed: int = 0):
    torch.manual_seed(seed)
    x = torch.randn(batch, CHANNELS, height, width)
    if name.startswith("AttentionGate"):
        return x, torch.randn(batch, 12, height // 2, width // 2)
    return (x,)


def assert_same(ours: nn.Module, theirs: nn.Module, *x, theirs_x=None) -> None:
    """Equal at float32 defaults, and to 1e-12 in float64; forward and gradient."""
    torch.testing.assert_close(ours(*x), theirs(*(theirs_x or x)))
    x = [t.double() for t in x]
    theirs_x = [t.double() for t in theirs_x] if theirs_x else x
    torch.testing.assert_close(
        ours.double()(*x), theirs.double()(*theirs_x), rtol=1e-12, atol=1e-12
    )
    a, b = x[0].clone().requires_grad_(), x[0].clone().requires_grad_()
    theirs_x = [b if t is x[0] or torch.equal(t, x[0]) else t for t in theirs_x]
    ours(a, *x[1:]).square().sum().backward()
    theirs(*theirs_x).square().sum().backward()
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-11, atol=1e-11)


# What a map is ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("size", [(2, 6, 10), (1, 8, 8), (3, 7, 5)])
def test_weights_lie_between_zero_and_one_and_multiply_the_features(name, size):
    batch, height, width = size
    module, x = build(name).eval(), inputs(name, batch, height, width)
    weights = module.weights(*x)
    assert weights.min() > 0 and weights.max() < 1
    shape = {
        "SqueezeExcitation": (batch, CHANNELS, 1, 1),
        "ECA": (batch, CHANNELS, 1, 1),
        "ChannelAttention": (batch, CHANNELS, 1, 1),
        "CBAM": (batch, CHANNELS, height, width),
    }.get(name, (batch, 1, height, width))
    assert weights.shape == shape
    product = x[0] * weights
    if name == "AttentionGate, authors":
        product = module.out(product)
    torch.testing.assert_close(module(*x), product)


@pytest.mark.parametrize("name", GATES)
def test_gates_are_no_softmax(name):
    weights = build(name).eval().weights(*inputs(name))
    for axes in (1, (2, 3)):
        if weights.sum(axes).numel() < weights.numel():
            assert not torch.allclose(weights.sum(axes), torch.ones(()), atol=1e-2)


def test_only_dot_product_attention_has_rows_that_sum_to_one():
    weights = build("SelfAttention2d").weights(*inputs("SelfAttention2d"))
    assert weights.shape == (2, 2, 60, 60)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 60))


# Equations --------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 8, 16, 31, 64, 128, 256, 512, 1024])
def test_kernel_of_eca_is_the_odd_number_nearest_to_the_papers(channels):
    kernel = ECA(channels).conv.kernel_size[0]
    wanted = torch.log2(torch.tensor(float(channels))).item() / 2 + 0.5
    assert kernel % 2 == 1 and abs(kernel - wanted) <= 1
    assert ECA(channels).conv.bias is None


def test_channel_attention_shares_one_perceptron_and_sums_before_the_sigmoid():
    module, (x,) = build("ChannelAttention"), inputs("ChannelAttention")
    logits = module.mlp(x.mean((2, 3))) + module.mlp(x.amax((2, 3)))
    torch.testing.assert_close(module.weights(x)[:, :, 0, 0], logits.sigmoid())
    assert sum(p.numel() for p in module.parameters()) == 2 * 32 * 8 + 8 + 32


@pytest.mark.parametrize(("channels", "reduction"), [(32, 16), (64, 4), (48, 7), (16, 16)])
def test_parameters_of_squeeze_excitation_are_those_of_the_formula(channels, reduction):
    hidden = channels // reduction
    found = sum(p.numel() for p in SqueezeExcitation(channels, reduction).parameters())
    assert found == 2 * channels * hidden + hidden + channels


def test_spatial_attention_looks_at_two_maps_the_mean_first():
    module = SpatialAttention(3)
    assert module.conv.in_channels == 2 and module.conv.out_channels == 1
    with torch.no_grad():
        module.conv.weight.zero_()
        module.conv.weight[0, 0, 1, 1] = 1.0  # the middle of the first map alone
        module.conv.bias.zero_()
    x = torch.randn(2, 5, 4, 6)
    torch.testing.assert_close(module.weights(x), x.mean(1, keepdim=True).sigmoid())


def test_cbam_weighs_channels_first_and_places_of_the_weighed_features_then():
    module, (x,) = build("CBAM"), inputs("CBAM")
    torch.testing.assert_close(module(x), module.spatial(module.channel(x)))
    other_order = module.channel(module.spatial(x))
    assert not torch.allclose(module(x), other_order, atol=1e-3)


@pytest.mark.parametrize("authors", [False, True])
def test_gate_multiplies_the_skip_and_takes_a_coarser_signal(authors):
    torch.manual_seed(0)
    gate = AttentionGate(6, 10, authors=authors)
    x, g = torch.randn(2, 6, 8, 12), torch.randn(2, 10, 4, 6)
    alpha = gate.weights(x, g)
    assert alpha.shape == (2, 1, *x.shape[2:])
    assert gate(x, g).shape == x.shape
    torch.testing.assert_close(gate(x, g), gate.out(x * alpha))


def test_swapping_skip_and_signal_of_a_gate_changes_the_result():
    torch.manual_seed(0)
    gate = AttentionGate(8, 8)
    x, g = torch.randn(2, 8, 6, 6), torch.randn(2, 8, 6, 6)
    assert not torch.allclose(gate(x, g), gate(g, x), atol=1e-2)
    torch.testing.assert_close(gate(torch.zeros_like(x), g), torch.zeros_like(x))
    assert gate(x, torch.zeros_like(g)).abs().max() > 0.1


def test_the_authors_gate_computes_its_map_at_half_the_size():
    gate = AttentionGate(8, 16, authors=True, norm=nn.BatchNorm2d).eval()
    skip, signal = gate.skip[0], gate.gate[0]
    assert skip.kernel_size == skip.stride == (2, 2) and skip.bias is None
    assert signal.kernel_size == (1, 1) and signal.bias is not None
    assert isinstance(gate.out[1], nn.BatchNorm2d)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in (*gate.skip, *gate.gate, *gate.psi))
    x, g = torch.randn(1, 8, 12, 12), torch.randn(1, 16, 6, 6)
    small = torch.sigmoid(gate.psi(torch.relu(skip(x) + signal(g))))
    assert small.shape == (1, 1, 6, 6)
    up = F.interpolate(small, (12, 12), mode="bilinear", align_corners=False)
    torch.testing.assert_close(gate.weights(x, g), up)


def test_a_1x1_convolution_and_interpolation_may_change_places():
    """This is why the gate interpolates W_g g, which is narrower, and not g."""
    torch.manual_seed(0)
    gate = AttentionGate(6, 10)
    x, g = torch.randn(2, 6, 9, 7), torch.randn(2, 10, 4, 3)
    up = F.interpolate(g, (9, 7), mode="bilinear", align_corners=False)
    torch.testing.assert_close(gate(x, g), gate(x, up))


def test_dot_product_attention_is_a_weighted_mean_of_the_values():
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 7, 4), torch.randn(2, 3, 7, 6)
    found = scaled_dot_product_attention(query, key, value)
    assert found.shape == (2, 3, 5, 6)
    assert attention_weights(query, key).shape == (2, 3, 5, 7)
    assert (found <= value.amax(-2, keepdim=True) + 1e-6).all()
    torch.testing.assert_close(found, F.scaled_dot_product_attention(query, key, value))
    query, key, value = query.double(), key.double(), value.double()
    torch.testing.assert_close(
        scaled_dot_product_attention(query, key, value),
        F.scaled_dot_product_attention(query, key, value),
        rtol=1e-12,
        atol=1e-12,
    )


def test_self_attention_starts_as_the_identity_and_is_its_own_map_applied():
    x = torch.randn(2, CHANNELS, 5, 3)
    torch.testing.assert_close(SelfAttention2d(CHANNELS)(x), x, rtol=0, atol=0)
    module = build("SelfAttention2d")
    value = module.queries_keys_values(x)[2]
    taken = (module.weights(x) @ value).mT.reshape(2, CHANNELS // 2, 5, 3)
    torch.testing.assert_close(module(x), x + module.out(taken))


def test_self_attention_does_not_know_the_order_of_the_places():
    module, (x,) = build("SelfAttention2d"), inputs("SelfAttention2d")
    order = torch.randperm(60)

    def shuffled(images):
        return images.flatten(2)[:, :, order].view_as(images)

    torch.testing.assert_close(module(shuffled(x)), shuffled(module(x)))


# Parity with other libraries --------------------------------------------------------------------


def copy_linear(ours: nn.Linear, theirs: nn.Module) -> None:
    """Ours into a 1x1 convolution or linear layer of another library; what it lacks is zero."""
    with torch.no_grad():
        theirs.weight.copy_(ours.weight.view_as(theirs.weight))
        if theirs.bias is None:
            ours.bias.zero_()
        else:
            theirs.bias.copy_(ours.bias)


def test_squeeze_excitation_equals_torchvision():
    from torchvision.ops import SqueezeExcitation as Theirs

    ours, theirs = build("SqueezeExcitation"), Theirs(CHANNELS, CHANNELS // 4)
    copy_linear(ours.down, theirs.fc1), copy_linear(ours.up, theirs.fc2)
    assert_same(ours, theirs, *inputs("SqueezeExcitation"))


def test_squeeze_excitation_equals_timm_whose_hidden_width_is_rounded():
    from timm.layers import SEModule

    for channels in (64, 160, 176):  # 4, 10 and 11 units by r = 16; timm takes 8 for each
        assert SEModule(channels).fc1.out_channels == 8
    ours, theirs = build("SqueezeExcitation"), SEModule(CHANNELS, rd_ratio=1 / 4)
    copy_linear(ours.down, theirs.fc1), copy_linear(ours.up, theirs.fc2)
    assert_same(ours, theirs, *inputs("SqueezeExcitation"))


def test_squeeze_excitation_equals_monai():
    from monai.networks.blocks import ChannelSELayer, ResidualSELayer

    assert ChannelSELayer(2, CHANNELS).fc[0].out_features == CHANNELS // 2  # r = 2 by default
    ours, theirs = build("SqueezeExcitation"), ChannelSELayer(2, CHANNELS, r=4)
    copy_linear(ours.down, theirs.fc[0]), copy_linear(ours.up, theirs.fc[2])
    assert_same(ours, theirs, *inputs("SqueezeExcitation"))
    residual = ResidualSELayer(2, CHANNELS, r=4).eval()
    (x,) = inputs("SqueezeExcitation")
    y = residual.fc(x.mean((2, 3)))
    assert isinstance(residual.fc[-1], nn.ReLU), "its gate is a ReLU"
    torch.testing.assert_close(residual(x), x + x * y[:, :, None, None])


def test_eca_equals_timm():
    from timm.layers import EcaModule

    for channels in (16, 64, 128, 256, 512):
        ours, theirs = ECA(channels), EcaModule(channels)
        assert ours.conv.kernel_size == theirs.conv.kernel_size
        theirs.load_state_dict(ours.state_dict())
        assert_same(ours, theirs, torch.randn(2, channels, 5, 4))


def test_cbam_equals_timm_with_its_norm():
    from timm.layers.cbam import CbamModule

    torch.manual_seed(0)
    ours, theirs = CBAM(CHANNELS, 4, norm=nn.BatchNorm2d), CbamModule(CHANNELS, rd_ratio=1 / 4)
    copy_linear(ours.channel.mlp[0], theirs.channel.fc1)
    copy_linear(ours.channel.mlp[2], theirs.channel.fc2)
    theirs.spatial.conv.conv.load_state_dict(ours.spatial.conv.state_dict())
    for train in (True, False):
        assert_same(ours.float().train(train), theirs.float().train(train), *inputs("CBAM"))


def test_timm_hides_its_cbam():
    import timm.layers

    assert not hasattr(timm.layers, "CbamModule")


def test_the_1x1_gate_with_norm_equals_the_gate_inside_monais_attention_unet():
    from monai.networks.nets import AttentionUnet
    from monai.networks.nets.attentionunet import AttentionBlock

    net = AttentionUnet(2, 1, 2, channels=(8, 16), strides=(2,))
    theirs = next(m for m in net.modules() if isinstance(m, AttentionBlock))
    channels, hidden = theirs.W_x[0].conv.in_channels, theirs.W_x[0].conv.out_channels
    ours = AttentionGate(channels, theirs.W_g[0].conv.in_channels, hidden, norm=nn.BatchNorm2d)
    for layer, peer in ((ours.skip, theirs.W_x), (ours.gate, theirs.W_g), (ours.psi, theirs.psi)):
        peer[0].conv.load_state_dict(layer[0].state_dict())
        peer[1].load_state_dict(layer[1].state_dict())
    x, g = torch.randn(2, channels, 6, 4), torch.randn(2, channels, 6, 4)
    for train in (True, False):
        ours.float().train(train), theirs.float().train(train)
        assert_same(ours, theirs, x, g, theirs_x=(g, x))


# What a module must survive ---------------------------------------------------------------------


@every_module
def test_gradients_are_right(name):
    module = build(name).double().eval()
    x = [t[:1, :, :4, :3].double().requires_grad_() for t in inputs(name)]
    assert torch.autograd.gradcheck(lambda *x: module(*x), x, fast_mode=True)


@every_module
def test_all_parameters_get_a_gradient(name):
    module = build(name)
    module(*inputs(name)).square().sum().backward()
    for parameter, values in module.named_parameters():
        assert values.grad is not None and torch.isfinite(values.grad).all(), parameter


@every_module
def test_input_is_left_as_it_was(name):
    x = inputs(name)
    before = copy.deepcopy(x)
    build(name)(*x)
    assert all(torch.equal(a, b) for a, b in zip(x, before, strict=True))


@every_module
def test_a_batch_of_one_gives_what_it_gives_in_a_larger_batch(name):
    module, x = build(name).eval(), inputs(name)
    torch.testing.assert_close(module(*(t[:1] for t in x)), module(*x)[:1])


@every_module
def test_under_autocast(name):
    module, x = build(name).eval(), inputs(name)
    with torch.autocast("cpu", torch.bfloat16):
        found = module(*x)
    torch.testing.assert_close(found.float(), module(*x), rtol=0.05, atol=0.05)


@every_module
def test_channels_last(name):
    module, x = build(name).eval(), inputs(name)
    last = copy.deepcopy(module).to(memory_format=torch.channels_last)
    found = last(*(t.to(memory_format=torch.channels_last) for t in x))
    torch.testing.assert_close(found, module(*x))


@every_module
def test_compiled(name):
    module, x = build(name).eval(), inputs(name)
    torch._dynamo.reset()
    # aot_eager traces forward and backward as the default does, without calling a C compiler.
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(*x), module(*x))


@every_module
def test_exported(name):
    module, x = build(name).eval(), inputs(name)
    exported = torch.export.export(module, x).module()
    torch.testing.assert_close(exported(*x), module(*x))


@every_module
def test_copied_and_nothing_is_stored_on_it(name):
    module, x = build(name).eval(), inputs(name)
    before = set(vars(module))
    found = module(*x)
    assert set(vars(module)) == before
    torch.testing.assert_close(copy.deepcopy(module)(*x), found, rtol=0, atol=0)


# Bad arguments ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SqueezeExcitation, ChannelAttention, CBAM])
@pytest.mark.parametrize(("channels", "reduction"), [(8, 16), (0, 1), (16, 0)])
def test_a_reduction_that_leaves_no_hidden_unit_is_refused(kind, channels, reduction):
    with pytest.raises(ValueError, match=r"leaves no hidden unit.*try reduction="):
        kind(channels, reduction)


@pytest.mark.parametrize("kernel", [0, 2, 4, -3])
def test_an_even_kernel_is_refused(kernel):
    for make in (SpatialAttention, lambda k: ECA(16, k), lambda k: CBAM(16, 4, k)):
        with pytest.raises(ValueError, match=r"kernel_size=.*expected an odd number.*try "):
            make(kernel)


@pytest.mark.parametrize("arguments", [(0, 4), (4, 0), (4, 4, 0), (-1, 4)])
def test_a_gate_without_channels_is_refused(arguments):
    with pytest.raises(ValueError, match="expected at least one channel"):
        AttentionGate(*arguments)


@pytest.mark.parametrize(
    ("module", "said"),
    [(SqueezeExcitation(8, 4), "SqueezeExcitation got"), (ECA(8), "ECA got"),
     (ChannelAttention(8, 4), "ChannelAttention got"), (CBAM(8, 4), "ChannelAttention got"),
     (SelfAttention2d(8), "SelfAttention2d got")],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(2, 6, 4, 4), (8, 4, 4), (2, 8), (2, 8, 0, 4), (2, 4, 4, 8)])
def test_features_of_another_form_are_refused_with_what_was_expected(module, said, shape):
    with pytest.raises(ValueError, match=said) as caught:
        module(torch.rand(shape))
    assert f"{shape}. Expected (N, 8, H, W), for which it was built" in str(caught.value)


@pytest.mark.parametrize(
    "module", [SqueezeExcitation(8, 4), ECA(8), ChannelAttention(8, 4), SpatialAttention(),
               CBAM(8, 4), SelfAttention2d(8)],
)  # fmt: skip
def test_volumes_are_refused_with_what_to_do(module):
    said = r"got a tensor of shape \(2, 8, 4, 4, 4\)\. Expected \(N, [C8], H, W\).*slice by slice"
    with pytest.raises(ValueError, match=said):
        module(torch.rand(2, 8, 4, 4, 4))


def test_a_gate_names_the_input_that_does_not_fit():
    gate, x, g = AttentionGate(4, 6), torch.rand(2, 4, 8, 8), torch.rand(2, 6, 4, 4)
    for wrong in ((g, x), (x[0], g), (x, g[0]), (x[..., None], g)):
        with pytest.raises(ValueError, match=r"AttentionGate got .*Expected \(N, [46], H, W\)"):
            gate(*wrong)


@pytest.mark.parametrize("kind", [SpatialAttention, lambda norm: CBAM(4, 2, norm=norm)])
def test_batch_norm_over_one_value_is_refused_in_training(kind):
    module, x = kind(norm=nn.BatchNorm2d), torch.rand(1, 4, 1, 1)
    with pytest.raises(ValueError, match=r"batch norm gets a single value.*model\.eval\(\) first"):
        module(x)
    assert module(x.expand(2, -1, -1, -1)).shape == (2, 4, 1, 1)
    assert module.eval()(x).shape == x.shape


@pytest.mark.parametrize("authors", [False, True])
def test_a_gate_with_batch_norm_over_one_value_is_refused_in_training(authors):
    gate = AttentionGate(4, 6, authors=authors, norm=nn.BatchNorm2d)
    side = 2 if authors else 1
    with pytest.raises(ValueError, match="batch norm gets a single value"):
        gate(torch.rand(1, 4, side, side), torch.rand(1, 6, 1, 1))


@pytest.mark.parametrize(("channels", "heads"), [(1, 1), (8, 3), (8, 0)])
def test_heads_that_do_not_divide_are_refused(channels, heads):
    with pytest.raises(ValueError, match="a number of heads that divides the inner width"):
        SelfAttention2d(channels, heads)


def test_eca_without_channels_is_refused():
    with pytest.raises(ValueError, match="expected at least one channel"):
        ECA(0)


# The matched control, and the shape of the file -------------------------------------------------


def test_a_module_drawn_in_its_own_stream_does_not_move_the_others():
    torch.manual_seed(0)
    alone = torch.rand(3)
    torch.manual_seed(0)
    with own_random_stream():
        SqueezeExcitation(16)
    assert torch.equal(torch.rand(3), alone)


@pytest.mark.parametrize(
    "kind",
    [
        c
        for _, c in inspect.getmembers(attention, inspect.isclass)
        if c.__module__ == attention.__name__
    ],
)
def test_each_class_is_short_and_names_its_paper(kind):
    source, doc = inspect.getsource(kind), kind.__doc__
    assert ("https://arxiv.org/abs/" in doc and "equation" in doc) or kind is ECA
    code = [line for line in source.replace(doc, "").splitlines() if line.strip()]
    assert len(code) <= 40
    assert hasattr(kind, "weights") and hasattr(kind, "forward")
