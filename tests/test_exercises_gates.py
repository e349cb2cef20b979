"""Chapter 06: right answers written differently pass, half-right ones are caught, facts hold."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from einops import einsum, rearrange, reduce, repeat
from torch import nn
from torch.nn import functional as F

from course_utils import ledger
from course_utils.attention import AttentionGate
from course_utils.exercises import exercise, gates
from course_utils.exercises.sandbox import preserved_state
from course_utils.notebooks import chapters
from course_utils.unet import UNet


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "progress.json"))


# Right answers written differently ---------------------------------------------------------------


def gate_raised_first(x, g, skip, gate, psi):
    up = nn.Upsample(size=tuple(x.shape[2:]), mode="bilinear")
    return psi(F.relu(gate(up(g)) + skip(x))).sigmoid()


def gate_by_einsum(x, g, skip, gate, psi):
    raised = F.interpolate(g, size=x.shape[-2:], mode="bilinear", align_corners=False)
    a = torch.einsum("nchw,oc->nohw", x, skip.weight[:, :, 0, 0]) + skip.bias[:, None, None]
    b = torch.einsum("nchw,oc->nohw", raised, gate.weight[:, :, 0, 0]) + gate.bias[:, None, None]
    z = torch.einsum("nchw,c->nhw", (a + b).clamp(min=0), psi.weight[0, :, 0, 0]) + psi.bias
    return 1 / (1 + torch.exp(-z.unsqueeze(1)))


def gate_by_einops(x, g, skip, gate, psi):
    h, w = x.shape[2:]
    raised = F.interpolate(gate(g), (h, w), mode="bilinear")
    hidden = rearrange(torch.maximum(skip(x) + raised, torch.zeros(())), "n c h w -> (n h w) c")
    logits = einsum(hidden, psi.weight[0, :, 0, 0], "p c, c -> p") + psi.bias
    return rearrange(torch.sigmoid(logits), "(n h w) -> n 1 h w", h=h, w=w)


def gate_joined(x, g, skip, gate, psi):
    """One convolution of both maps behind each other is the sum of two convolutions."""
    both = torch.cat([x, F.interpolate(g, x.shape[2:], mode="bilinear")], 1)
    kernel = torch.cat([skip.weight, gate.weight], 1)
    return torch.sigmoid(psi(F.conv2d(both, kernel, skip.bias + gate.bias).relu()))


class GateModule(nn.Module):
    def forward(self, x, g, skip, gate, psi):
        return torch.special.expit(
            psi(nn.ReLU()(skip(x) + F.interpolate(gate(g), x.shape[2:], mode="bilinear")))
        )


class GridOfSequentials(nn.Module):
    def __init__(self, channels, gate_channels, hidden):
        super().__init__()
        self.w_out = nn.Sequential(nn.Conv2d(channels, channels, kernel_size=1))
        self.to_logit = nn.Sequential(nn.ReLU(), nn.Conv2d(hidden, 1, 1), nn.Sigmoid())
        self.w_g = nn.Conv2d(gate_channels, hidden, kernel_size=(1, 1))
        self.w_x = nn.Conv2d(channels, hidden, kernel_size=(2, 2), stride=(2, 2), bias=False)

    def forward(self, x, g):
        found = self.w_x(x)
        found = found + F.interpolate(self.w_g(g), found.shape[2:], mode="bilinear")
        alpha = F.interpolate(self.to_logit(found), x.shape[2:], mode="bilinear")
        return self.w_out(alpha.expand_as(x) * x)


class GridOfLinears(nn.Module):
    """1x1 convolutions as linear layers over the channels, the 2x2 one of squares cut out."""

    def __init__(self, channels, gate_channels, hidden):
        super().__init__()
        self.w_x = nn.Conv2d(channels, hidden, 2, 2, bias=False)
        self.w_g, self.psi = nn.Linear(gate_channels, hidden), nn.Linear(hidden, 1)
        self.out = nn.Linear(channels, channels)

    def forward(self, x, g):
        skip = self.w_x(x[:, :, : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2])
        asked = F.interpolate(
            self.w_g(g.movedim(1, 3)).movedim(3, 1), skip.shape[2:], mode="bilinear"
        )
        small = self.psi((skip + asked).relu().movedim(1, 3)).movedim(3, 1).sigmoid()
        alpha = F.interpolate(small, x.shape[2:], mode="bilinear")
        return self.out((x * alpha).movedim(1, 3)).movedim(3, 1)


def grid_of_the_course(channels, gate_channels, hidden):
    return AttentionGate(channels, gate_channels, hidden, authors=True)


def step_by_weights(x, skip, up, gate, merge):
    raised = up(x)
    return merge(torch.hstack((skip * gate.weights(skip, raised), raised)))


def step_by_filling(x, skip, up, gate, merge):
    raised = up(x)
    both = torch.empty(len(skip), 2 * skip.shape[1], *skip.shape[2:])
    both[:, : skip.shape[1]] = gate(x=skip, g=raised)
    both[:, skip.shape[1] :] = raised
    return merge(both)


class StepModule(nn.Module):
    def forward(self, x, skip, up, gate, merge):
        x = up(x)
        return merge(rearrange([gate(skip, x), x], "k n c h w -> n (k c) h w"))


def paired_with_numpy(attention, control):
    both = (attention - control).numpy()
    both = both[np.isfinite(both)]
    return torch.tensor([both.mean(), both.std(ddof=1) / np.sqrt(len(both))])


def paired_by_hand(attention, control):
    d = [
        a - c
        for a, c in zip(attention.tolist(), control.tolist(), strict=True)
        if a == a and c == c
    ]
    mean = sum(d) / len(d)
    variance = sum((x - mean) ** 2 for x in d) / (len(d) - 1)
    return torch.tensor([mean, (variance / len(d)) ** 0.5])


def paired_by_nan_functions(attention, control):
    d = attention.double() - control.double()
    n = d.isfinite().sum()
    variance = (d - d.nanmean()).square().nansum() / (n - 1)
    return torch.cat([d.nanmean()[None], (variance / n).sqrt()[None]])


def paired_by_scipy(attention, control):
    from scipy.stats import sem

    d = (attention - control)[torch.isfinite(attention + control)]
    return torch.tensor([d.mean().item(), sem(d.numpy())])


def sizes_by_loop(dice, areas, groups):
    order = sorted(range(len(dice)), key=lambda i: areas[i].item())
    size, rest = divmod(len(order), groups)
    found, at = torch.zeros(groups), 0
    for k in range(groups):
        upto = at + size + (k < rest)
        found[k] = sum(dice[i] for i in order[at:upto]) / (upto - at)
        at = upto
    return found


def sizes_by_numpy(dice, areas, groups):
    parts = np.array_split(dice.numpy()[np.argsort(areas.numpy())], groups)
    return torch.tensor([part.mean() for part in parts])


def sizes_by_group_number(dice, areas, groups):
    rank = areas.argsort().argsort()
    sizes = torch.tensor([len(p) for p in torch.arange(len(dice)).tensor_split(groups)])
    number = torch.repeat_interleave(torch.arange(groups), sizes)[rank]
    return torch.zeros(groups).index_add(0, number, dice) / sizes


RIGHT = {
    "gates.gate_weights": [
        gate_raised_first,
        gate_by_einsum,
        gate_by_einops,
        gate_joined,
        GateModule,
    ],
    "gates.lowest_weight": [0.27, 0.269, torch.tensor(-1.0).sigmoid(), np.float64(0.2689)],
    "gates.GridGate": [
        GridOfSequentials,
        GridOfLinears,
        grid_of_the_course,
        gates.GridGate(4, 8, 2),  # a module of a learner's class is built anew for each size
    ],
    "gates.gated_step": [step_by_weights, step_by_filling, StepModule],
    "gates.gate_parameters": [409, 409.0, torch.tensor(409)],
    "gates.paired_difference": [
        paired_with_numpy,
        paired_by_hand,
        paired_by_nan_functions,
        paired_by_scipy,
    ],
    "gates.dice_by_size": [sizes_by_loop, sizes_by_numpy, sizes_by_group_number],
}


@pytest.mark.parametrize("name", [ex.name for ex in gates.EXERCISES])
def test_right_answers_written_differently_pass(name):
    for answer in RIGHT[name]:
        result = exercise(name).check(answer)
        assert result.passed, (answer, result.message)


# Half-right answers and combinations -------------------------------------------------------------


def test_the_stub_of_the_step_is_the_code_started_from_and_gives_nothing_away():
    def gated_step(x, skip, up, gate, merge):
        raised = up(x)
        gated = gate(raised, skip)
        return merge(torch.cat([skip, gated], dim=1))

    result = exercise("gates.gated_step").check(gated_step)
    assert result.mistake == "unmended" and "the code you started from" in result.message
    assert "gate(skip" not in result.message


def test_a_gate_with_a_norm_or_other_layers_is_not_right():
    class Normed(gates.GridGate):
        def __init__(self, channels, gate_channels, hidden):
            super().__init__(channels, gate_channels, hidden)
            self.out = nn.Sequential(self.out, nn.BatchNorm2d(channels))

    class OutWithoutBias(gates.GridGate):
        def __init__(self, channels, gate_channels, hidden):
            super().__init__(channels, gate_channels, hidden)
            self.out = nn.Conv2d(channels, channels, 1, bias=False)

    ex = exercise("gates.GridGate")
    assert ex.check(OutWithoutBias).mistake == "missing-bias"
    assert ex.check(Normed).mistake == "with-norm"
    assert ex.check(AttentionGate(4, 8, authors=True)).mistake is not None


def test_a_layer_too_many_or_one_in_a_plain_list_is_named():
    class Unused(GridOfSequentials):
        def __init__(self, channels, gate_channels, hidden):
            super().__init__(channels, gate_channels, hidden)
            self.norm = nn.BatchNorm2d(channels)

    class Listed(nn.Module):
        def __init__(self, channels, gate_channels, hidden):
            super().__init__()
            right = gates.GridGate(channels, gate_channels, hidden)
            self.layers = [right.skip, right.gate, right.psi, right.out]

        def forward(self, x, g):
            parts = SimpleNamespace()
            parts.skip, parts.gate, parts.psi, parts.out = self.layers
            return gates.GridGate.forward(parts, x, g)

    class ListedTwice(gates.GridGate):
        def __init__(self, channels, gate_channels, hidden):
            super().__init__(channels, gate_channels, hidden)
            self.all = [self.skip, self.gate, self.psi, self.out]  # known to the module as well

    ex = exercise("gates.GridGate")
    assert ex.check(Unused).mistake == "layer-unused"
    assert ex.check(Listed).mistake == "layers-in-a-list"
    assert ex.check(ListedTwice).passed


def test_a_bias_at_the_skip_instead_of_at_the_signal_does_the_same():
    """An interpolated constant is that constant, so that both places of the bias are right."""

    class Exchanged(gates.GridGate):
        def __init__(self, channels, gate_channels, hidden):
            super().__init__(channels, gate_channels, hidden)
            self.skip = nn.Conv2d(channels, hidden, 2, stride=2)
            self.gate = nn.Conv2d(gate_channels, hidden, 1, bias=False)

    assert exercise("gates.GridGate").check(Exchanged).passed


def test_two_mistakes_at_once_are_not_right():
    def softmax_and_nearest(x, g, skip, gate, psi):
        logits = psi(torch.relu(skip(x) + F.interpolate(gate(g), x.shape[2:])))
        return logits.flatten(2).softmax(2).view_as(logits)

    def reversed_and_missing_as_zero(attention, control):
        return gates.missing_runs_as_zero(control, attention)

    def largest_first_and_dropped(dice, areas, groups):
        return gates.rest_dropped(dice, areas, groups).flip(0)

    def swapped_and_unmerged(x, skip, up, gate, merge):
        return torch.cat([up(x), gate(up(x), skip)], 1)

    for name, answer in (
        ("gates.gate_weights", softmax_and_nearest),
        ("gates.paired_difference", reversed_and_missing_as_zero),
        ("gates.dice_by_size", largest_first_and_dropped),
        ("gates.gated_step", swapped_and_unmerged),
    ):
        result = exercise(name).check(answer)
        assert not result.passed and result.mistake, result.message


def quantiles_in_float32(dice, areas, groups):
    cuts = [areas.float().quantile(k / groups) for k in range(1, groups)]
    number = sum((areas > cut).long() for cut in cuts)
    return torch.stack([dice[number == k].mean() for k in range(groups)])


def quantiles_by_numpy(dice, areas, groups):
    cuts = np.quantile(areas.numpy(), np.linspace(0, 1, groups + 1))[1:-1]
    number = np.digitize(areas.numpy(), cuts)
    return torch.tensor([dice.numpy()[number == k].mean() for k in range(groups)])


def signal_joined_first(x, g, skip, gate, psi):
    both = torch.cat([F.interpolate(gate(g), x.shape[2:], mode="bilinear"), skip(x)], 1)
    return psi(both.relu()).sigmoid()


def three_in_another_order(x, skip, up, gate, merge):
    raised = up(x)
    return merge(torch.cat([skip, raised, gate(skip, raised)], 1))


def error_times_two_by_numpy(attention, control):
    d = (attention - control).numpy()
    d = d[~np.isnan(d)]
    return torch.tensor([d.mean(), 1.96 * d.std(ddof=1) / len(d) ** 0.5])


class NormAtTheEnd(gates.GridGate):
    def __init__(self, channels, gate_channels, hidden):
        super().__init__(channels, gate_channels, hidden)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x, g):
        return self.norm(super().forward(x, g))


def grid_gate(signal, raised, signal_first=False, map_first=True, enlarge=None):
    """A GridGate in which single steps are the learner's."""

    class Gate(nn.Module):
        def __init__(self, channels, gate_channels, hidden):
            super().__init__()
            self.w_x = nn.Conv2d(channels, hidden, 2, 2, bias=False)
            self.w_g = nn.Conv2d(gate_channels, hidden, 1)
            self.psi = nn.Conv2d(hidden, 1, 1)
            self.last = nn.Conv2d(channels, channels, 1)

        def forward(self, x, g):
            a = self.w_x(x) if enlarge is None else enlarge(self.w_x(x), x)
            b = signal(self.w_g(g), a, x)
            both = b + a if signal_first else a + b
            alpha = raised(self.psi(both.relu()).sigmoid(), x)
            return self.last(alpha * x if map_first else x * alpha)

    return Gate


def resized(values, like):
    return F.interpolate(values, like.shape[2:], mode="bilinear")


def doubled(values):
    return F.interpolate(values, scale_factor=2, mode="bilinear", align_corners=False)


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        *(
            (
                grid_gate(lambda b, a, x: resized(b, x), resized, first, enlarge=resized),
                "all-at-full-size",
                "at the size of x",
            )
            for first in (False, True)
        ),
        *(
            (
                grid_gate(lambda b, a, x: resized(b, x), resized, first),
                f"signal-at-full-size{end}",
                "What comes from g is brought to the size of x",
            )
            for first, end in ((False, ""), (True, "-first"))
        ),
        *(
            (
                grid_gate(lambda b, a, x: resized(b, a), lambda s, x: doubled(s), map_first=first),
                f"map-twice-as-large{end}",
                "The map is made exactly twice as large",
            )
            for first, end in ((False, ""), (True, "-first"))
        ),
        *(
            (
                grid_gate(lambda b, a, x: doubled(b), resized, first),
                f"signal-twice-as-large{end}",
                "What comes from g is made exactly twice as large",
            )
            for first, end in ((False, ""), (True, "-first"))
        ),
        *(
            (
                grid_gate(lambda b, a, x: resized(b, a), lambda s, x: s, map_first=first),
                f"map-not-raised{end}",
                "The map is half as large as the skip",
            )
            for first, end in ((False, ""), (True, "-first"))
        ),
        (
            grid_gate(
                lambda b, a, x: resized(b, x), lambda s, x: s, enlarge=lambda a, x: resized(a, x)
            ),
            "all-at-full-size",
            "Here the map is computed at the smaller size",
        ),
    ],
)
def test_sizes_that_a_gate_mixes_up_are_named(named, answer, mistake, words):
    named("gates.GridGate", answer, mistake, words)


def test_the_line_that_raises_is_still_the_learners():
    summed = exercise("gates.GridGate").check(grid_gate(lambda b, a, x: resized(b, x), resized))
    text = " ".join(summed.message.split())
    assert "before psi is called" in text and "in line" in text and "both = " in text


def test_the_authors_gate_is_told_apart_from_the_common_one_by_its_number():
    authors = AttentionGate(16, 32, hidden=8, authors=True)
    assert sum(p.numel() for n, p in authors.named_parameters() if n[:3] != "out") == 785
    for number, mistake in ((785, "authors-form-without-the-last"), (793, "two-by-two")):
        result = exercise("gates.gate_parameters").check(number)
        assert result.mistake == mistake and "2 by 2" in result.message.replace("\n", " ")


@pytest.mark.parametrize(
    ("name", "answer", "mistake"),
    [
        ("gates.dice_by_size", quantiles_in_float32, "quantiles-up-to"),
        ("gates.dice_by_size", quantiles_by_numpy, "quantiles-from"),
        ("gates.gate_weights", signal_joined_first, "joined-instead-of-added"),
        ("gates.gated_step", three_in_another_order, "three-joined"),
        ("gates.paired_difference", error_times_two_by_numpy, "interval"),
        ("gates.GridGate", NormAtTheEnd, "with-norm"),
        ("gates.lowest_weight", 27, "percent"),
    ],
)
def test_a_mistake_written_differently_is_named_alone(name, answer, mistake):
    result = exercise(name).check(answer)
    assert result.mistake == mistake and "more than one" not in result.message


def test_numpy_lists_and_changed_inputs_are_named():
    ex = exercise("gates.dice_by_size")
    numpy = ex.check(lambda d, a, k: sizes_by_numpy(d, a, k).numpy())
    assert numpy.mistake == "numpy-instead-of-tensor"
    listed = exercise("gates.paired_difference").check(lambda a, c: paired_by_hand(a, c).tolist())
    assert listed.mistake == "list-instead-of-tensor"

    def in_place(x, skip, up, gate, merge):
        result = gates.gated_step(x, skip, up, gate, merge)
        skip *= 2
        return result

    assert exercise("gates.gated_step").check(in_place).mistake == "input-changed-in-place"


def test_values_that_are_nearly_right():
    ex = exercise("gates.lowest_weight")
    assert ex.check(0.3).mistake and not ex.check(0.3).passed
    assert exercise("gates.gate_parameters").check(408).mistake == "bias-of-psi-forgotten"
    assert not exercise("gates.gate_parameters").check("409").passed


@pytest.mark.parametrize("name", [ex.name for ex in gates.EXERCISES if ex.make_inputs])
def test_whatever_an_answer_raises_or_returns_the_check_survives(name):
    class Odd(nn.Module):
        def __init__(self, *settings):
            super().__init__()

        def forward(self, *inputs):
            raise SystemExit

    for answer in (Odd, lambda *inputs: {"x": inputs}, lambda *inputs: object(), 7, nn.Linear):
        assert not exercise(name).check(answer).passed


# The references and the chapter's facts ----------------------------------------------------------


def test_references_agree_with_the_course():
    with preserved_state():
        for x, g, skip, gate, psi in exercise("gates.gate_weights").inputs(seed=5):
            ours = AttentionGate(x.shape[1], g.shape[1], hidden=psi.in_channels)
            for mine, given in ((ours.skip[0], skip), (ours.gate[0], gate), (ours.psi[0], psi)):
                mine.load_state_dict(given.state_dict())
            found = gates.gate_weights(x, g, skip, gate, psi)
            torch.testing.assert_close(found, ours.weights(x, g))
        for attention, control in exercise("gates.paired_difference").inputs(seed=5):
            both = (attention - control)[~(attention - control).isnan()].tolist()
            mean, half = ledger.mean_interval(both)
            from scipy.stats import t

            found = gates.paired_difference(attention, control)
            assert found[0].item() == pytest.approx(mean, abs=1e-5)
            factor = t.ppf(0.975, len(both) - 1)
            assert found[1].item() * factor == pytest.approx(half, rel=1e-3)


def test_values_to_predict_are_what_running_it_gives():
    common = AttentionGate(16, 32, hidden=8)
    assert gates.gate_parameters() == sum(p.numel() for p in common.parameters())
    gate = AttentionGate(1, 1, hidden=1)
    nn.init.constant_(gate.psi[0].weight, 2.0)
    nn.init.constant_(gate.psi[0].bias, -1.0)
    x, g = 20 * torch.randn(1, 1, 32, 32), 20 * torch.randn(1, 1, 16, 16)
    assert gate.weights(x, g).min().item() == pytest.approx(gates.lowest_weight())


def test_the_step_of_the_exercise_weighs_the_skip_and_not_the_raised_map():
    for x, skip, up, gate, _ in exercise("gates.gated_step").inputs(seed=5):
        both = gates.gated_step(x, skip, up, gate, nn.Identity())
        c = skip.shape[1]
        ratio = both[:, :c] / skip
        same = repeat(reduce(ratio, "n c h w -> n 1 h w", "mean"), "n 1 h w -> n c h w", c=c)
        torch.testing.assert_close(ratio, same, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(both[:, c:], up(x))


def test_what_the_gates_of_the_chapter_add():
    size = {"in_channels": 3, "outputs": 3, "width": 16, "levels": 5}

    def numbers(**gate):
        return sum(p.numel() for p in UNet(**size, **gate).parameters())

    def authors(channels, gate_channels):
        return AttentionGate(channels, gate_channels, authors=True, norm=nn.BatchNorm2d)

    plain = numbers(gate=None)
    assert 0 < numbers(gate=AttentionGate) / plain - 1 < 0.02
    assert numbers(gate=authors, gate_finest=False) / plain - 1 > 0.02


def test_monais_unet_is_far_smaller_than_its_attention_unet():
    from monai.networks.nets import AttentionUnet
    from monai.networks.nets import UNet as MonaiUNet

    shape = {"channels": (16, 32, 64, 128, 256), "strides": (2, 2, 2, 2)}
    plain, gated = (
        sum(p.numel() for p in kind(2, 3, 3, **shape).parameters())
        for kind in (MonaiUNet, AttentionUnet)
    )
    assert gated > 2.5 * plain


def test_published_pairs_are_complete_and_marked():
    table = ledger.published("attention_unet")
    assert len(table) == 5 and not table[["control", "attention"]].isna().any(axis=None)
    assert (table["standing"] == "read there").all()
    wins = table["transformer"] > table[["control", "attention"]].max(axis=1)
    assert list(table["system"][wins]) == [
        "Synapse, Dice of eight organs",
        "BUSI, F1 over 3 splits",
    ]
    assert ledger.published("isic2017")["source"].str.contains("600 test images").all()


def test_no_published_figure_is_from_memory():
    text = (chapters.NOTEBOOKS.parent / "results" / "published.csv").read_text()
    assert "unverified" not in text and "memory" not in text and "GPU-hours" not in text
