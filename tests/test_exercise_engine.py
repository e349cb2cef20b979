"""The machinery of the exercises: whatever an answer does, `check` survives and says why."""

import json
import math
import random
import sys
import threading
import time
import warnings
from decimal import Decimal
from fractions import Fraction
from functools import partial
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from answers import solution_source
from torch import nn

from course_utils.exercises import engine, exercise, progress
from course_utils.exercises.comparing import describe
from course_utils.exercises.engine import Exercise, Setup
from course_utils.exercises.texts import Text
from course_utils.exercises.trial import Trial, built, differentiated


@pytest.fixture
def progress_file(tmp_path, monkeypatch):
    file = tmp_path / "folder" / "progress.json"
    monkeypatch.setenv("COURSE_PROGRESS", str(file))
    return file


# Exercises of the kinds that chapters use: tensor function, module, number, string


class Toy(Exercise):
    """An exercise of functions and classes instead of a text."""

    def __init__(self, reference, inputs=None, wrong=None, question="A question.", **setup):
        source = "def answer():\n    return 0\n"
        text = Text("toy.toy", "A toy", question, "...", source, "Because.", ["vague", "plainer"])
        super().__init__(text, Setup(inputs, **setup))
        self.reference, self.wrong = reference, wrong or {}

    @property
    def slips(self):
        return self.wrong


def scale(images, factor):
    return images * factor / images.flatten(1).amax(1).view(-1, 1, 1)


def _scale_inputs(rng):
    shapes = ((1, 4, 4), (1, 3, 5), (4, 2, 2), (3, 6, 4), (2, 5, 5))
    return [(torch.rand(shape, generator=rng) + 0.5, 2.0) for shape in shapes]


SCALED = {
    "maximum-of-the-batch": (lambda x, f: x * f / x.max(), "One maximum for all images."),
    "wrong-view": (lambda x, f: x * f / x.flatten(1).amax(1).view(1, -1, 1), "View."),
}
SCALE = Toy(scale, _scale_inputs, SCALED)


class SqueezeExcite(nn.Module):
    def __init__(self, channels, reduction):
        super().__init__()
        self.down = nn.Linear(channels, channels // reduction)
        self.up = nn.Linear(channels // reduction, channels)

    def forward(self, x):
        weights = self.up(self.down(x.mean((2, 3))).relu()).sigmoid()
        return x * weights[:, :, None, None]


def _module_inputs(rng):
    return [
        (8, 2, True, torch.randn(1, 8, 3, 3, generator=rng)),
        (6, 3, False, torch.randn(4, 6, 5, 2, generator=rng)),
    ]


EXCITE = Toy(SqueezeExcite, _module_inputs, call=built)


class Gate(nn.Module):
    """An additive gate of two inputs, as in an Attention U-Net."""

    def __init__(self, x_channels, g_channels, hidden):
        super().__init__()
        self.x = nn.Conv2d(x_channels, hidden, 1, bias=False)
        self.g = nn.Conv2d(g_channels, hidden, 1)
        self.psi = nn.Conv2d(hidden, 1, 1)

    def forward(self, x, g):
        return x * self.psi((self.x(x) + self.g(g)).relu()).sigmoid()


def _gate_inputs(rng):
    sizes = ((1, 3, 5, 4, 3, 2), (4, 6, 4, 2, 2, 5), (2, 5, 5, 3, 4, 4))  # once as many in both
    return [
        (x, g, f, True, *(torch.randn(n, c, h, w, generator=rng) for c in (x, g)))
        for n, x, g, f, h, w in sizes
    ]


class GateAddsToInput(Gate):
    def forward(self, x, g):
        return x + self.psi((self.x(x) + self.g(g)).relu()).sigmoid()


GATED = {"adds-to-input": (GateAddsToInput, "A gate multiplies.")}
GATE = Toy(Gate, _gate_inputs, GATED, call=built)


def answer():
    return 0.25


VALUE = Toy(answer, wrong={"a-half": (lambda: 0.5, "That is a half.")})


def word():
    return "channel"


WORD = Toy(word)
TOYS = [SCALE, EXCITE, GATE, VALUE, WORD]


# Verdicts


def test_references_pass_and_known_mistakes_are_named():
    for toy in TOYS:
        result = toy.check(toy.reference)
        assert result and result.mistake is None and result.passed
        for mistake, (wrong, message) in toy.slips.items():
            result = toy.check(wrong)
            assert not result and result.mistake == mistake and message in result.message


def test_modules_written_otherwise_pass():
    for right in (SqueezeExcite(8, 2), lambda c, r: SqueezeExcite(c, r)):
        assert EXCITE.check(right).passed


class GateOtherwise(nn.Module):
    """Right: other names of the arguments, other order of creation, linear layers, nested parts."""

    def __init__(self, skip, signal, middle=7):
        super().__init__()
        self.last = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Linear(middle, 1), nn.Sigmoid()))
        self.signal = nn.ModuleDict({"map": nn.Linear(signal, middle)})
        self.skip = nn.Linear(skip, middle, bias=False)

    def forward(self, skip, signal):
        last = [t.movedim(1, -1) for t in (skip, signal)]
        return skip * self.last(self.skip(last[0]) + self.signal["map"](last[1])).movedim(-1, 1)


def test_modules_may_be_built_in_another_way_and_order():
    for right in (GateOtherwise, GateOtherwise(2, 2), partial(Gate)):
        result = GATE.check(right)
        assert result.passed, result.message


def test_a_mistake_is_named_whatever_the_order_of_the_weights():
    class Otherwise(GateOtherwise):
        def forward(self, skip, signal):
            gate = super().forward(skip, signal) / skip
            return skip + gate

    assert GATE.check(Otherwise).mistake == "adds-to-input"


def _gate_without(layer=None, **biases):
    class Gate(nn.Module):
        def __init__(self, x_channels, g_channels, hidden):
            super().__init__()
            self.x = nn.Conv2d(x_channels, hidden, 1, bias=biases.get("x", False))
            self.g = nn.Conv2d(g_channels, hidden, 1, bias=biases.get("g", True))
            self.norm = nn.BatchNorm2d(hidden) if layer == "norm" else nn.Identity()
            self.psi = nn.Conv2d(hidden, 1, 1, bias=biases.get("psi", True))

        def forward(self, x, g):
            return x * self.psi(self.norm(self.x(x) + self.g(g)).relu()).sigmoid()

    return Gate


@pytest.mark.parametrize(
    ("gate", "mistake", "says"),
    [
        (_gate_without(g=False), "missing-bias", "not there: (4,)."),
        (_gate_without(psi=False), "missing-bias", "not there: (1,)."),
        (_gate_without(x=True), "bias-too-many", "not expected: (4,)."),
        (_gate_without("norm"), "other-parameters", "not expected: (4,), (4,)."),
    ],
)
def test_parameters_too_few_or_too_many_are_described(gate, mistake, says):
    assert GATE.check(_gate_without()).passed
    result = GATE.check(gate)
    assert result.mistake == mistake
    assert says in result.message and "x_channels = 3" in result.message


def test_sizes_that_do_not_follow_the_settings_are_described():
    class Wide(SqueezeExcite):
        def __init__(self, channels, reduction):
            super().__init__(channels, 1)

    result = EXCITE.check(Wide)
    assert result.mistake == "other-parameters"
    assert "not there: (4,), (4, 8), (8, 4); not expected: (8,)," in result.message


def test_an_answer_that_is_no_module_class_is_told_what_to_give():
    class NoModule:
        def __init__(self, channels, reduction): ...

    class OneArgument(SqueezeExcite):
        def __init__(self, channels):
            super().__init__(channels, 2)

    class OneInput(Gate):
        def forward(self, x):
            return x

    fixed = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Sigmoid())
    for answer_, mistake, says in (
        (EXCITE.reference(8, 2)(torch.ones(1, 8, 2, 2)), "not-a-function", "check(SqueezeExcite)"),
        (fixed, "instance-instead-of-class", "from (channels, reduction)"),
        (lambda c, r: torch.ones(c), "not-a-module", "expected an nn.Module"),
        (type("Plain", (), {"forward": lambda self, x: x}), "not-a-module", "(nn.Module):"),
        (OneArgument, "wrong-arguments", "class takes (channels), expected (channels, reduction)"),
        (OneArgument(8), "wrong-arguments", "class takes (channels)"),
    ):
        result = EXCITE.check(answer_)
        assert (result.mistake, says in result.message) == (mistake, True), result.message
    assert EXCITE.check(NoModule).mistake == "not-answered"
    result = GATE.check(OneInput)
    assert result.mistake == "wrong-arguments"
    assert "Your `forward` takes (self, x), expected (self, x, g)." in result.message


def test_what_the_reference_takes_if_it_likes_is_not_asked_for():
    class Reference(SqueezeExcite):
        def __init__(self, channels, reduction, norm=None):
            super().__init__(channels, reduction)

    toy = Toy(Reference, _module_inputs, call=built)
    assert toy.check(SqueezeExcite).passed


def test_modules_get_weights_by_shape():
    a, b = Trial(Gate).module(5, 3, 4), Trial(GateOtherwise).module(5, 3, 4)
    assert torch.equal(a.x.weight.flatten(), b.skip.weight.flatten())
    assert torch.equal(a.g.bias, b.signal["map"].bias)
    same = Trial(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))).module()
    assert not torch.equal(same[0].weight, same[1].weight)
    assert Trial(Gate).module(5, 3, 4, train=False).training is False


def test_values_are_taken_in_many_forms():
    for right in (0.25, Fraction(1, 4), np.float32(0.25), torch.tensor(0.25), lambda: 0.25):
        assert VALUE.check(right).passed
    assert VALUE.check(Decimal("0.25")).mistake == "wrong-type"
    wrong = VALUE.check(0.7)
    assert wrong.mistake == "wrong-value" and "0.25" not in wrong.message
    assert WORD.check(" Channel ").passed
    assert WORD.check("spatial").mistake == "wrong-value"
    assert "channel" not in WORD.check("spatial").message
    assert "'Spatial Gate'" in WORD.check("Spatial Gate").message  # as it was typed
    assert "'About Nine'" in VALUE.check("About Nine").message


@pytest.mark.parametrize(
    ("answer_", "mistake", "says"),
    [
        (lambda x, f: None if len(x) else x, "returned-none", "return"),
        (lambda x, f: scale(x, f).numpy(), "numpy-instead-of-tensor", "NumPy"),
        (lambda x, f: float(scale(x, f).mean()), "number-instead-of-tensor", "(1, 4, 4)"),
        (lambda x, f: list(scale(x, f)), "list-instead-of-tensor", "list"),
        (lambda x, f: "a string", "wrong-type", "'a string'"),
        (lambda x, f: scale(x, f)[:, None], "wrong-shape", "(1, 1, 4, 4), expected (1, 4, 4)"),
        (lambda x, f: scale(x, f) > 1, "wrong-dtype", "bool, expected float32"),
        (lambda x, f: scale(x, f) * math.nan, "nan", "NaN"),
        (lambda x, f: scale(x, f) + 1, "wrong-value", "The result at [0, 0, 0] is"),
        (lambda x: x, "wrong-arguments", "(images, factor)"),
        (0.5, "not-a-function", "check(scale)"),
    ],
)
def test_answers_wrong_in_other_ways(answer_, mistake, says):
    result = SCALE.check(answer_)
    assert result.mistake == mistake
    assert says in result.message


def test_message_names_the_input_on_which_an_answer_fails():
    message = SCALE.check(lambda x, f: scale(x, f) + (len(x) > 3)).message
    assert "images = a float32 tensor of shape (4, 2, 2)" in message
    assert "factor = 2" in message


def test_a_tensor_without_axes_is_described_in_words():
    assert describe(torch.tensor(0.0)) == "a float32 tensor without axes: 0"
    assert describe(torch.tensor(3)) == "an int64 tensor without axes: 3"
    assert describe(torch.tensor(1 / 3)) == "a float32 tensor without axes: 0.333333"
    assert describe(torch.tensor([0.5])) == "a float32 tensor of shape (1,) [0.5]"
    assert describe(torch.tensor([[1], [2]])) == "an int64 tensor of shape (2, 1) [[1], [2]]"
    weight = exercise("start.positive_weight")
    assert "expected (), a tensor without axes." in weight.check(lambda y: y.float()).message
    message = weight.check(lambda y: 2.0).message
    assert "is 2, expected a torch tensor without axes." in message


@pytest.mark.parametrize(
    ("holds", "said"),
    [
        (lambda s: s[0] == 1, "Right for a batch of one, wrong for more. "),
        (lambda s: s[0] != 1, "Wrong for a batch of one, right for more. "),
        (lambda s: s[1] == s[2], "Right only where the last two axes are equally long. "),
        (lambda s: s[1] % 2 == s[2] % 2 == 0, "Right only for even height and width. "),
        (lambda s: s != (4, 2, 2), "Right on 4 of 5 inputs. The first that goes wrong:"),
    ],
)
def test_answers_right_for_some_inputs_only(holds, said):
    result = SCALE.check(lambda x, f: scale(x, f) + (not holds(x.shape)))
    assert result.mistake == "wrong-value" and said in result.message

    def raises(x, f):
        if not holds(x.shape):
            raise RuntimeError("sizes do not fit")
        return scale(x, f)

    message = SCALE.check(raises).message
    assert said in message and "sizes do not fit" in message


LOSS = Toy(
    lambda x: x.square().mean(),
    lambda rng: [(torch.randn(n, 3, 4, generator=rng),) for n in (1, 2, 3)],
    call=differentiated,
)


@pytest.mark.parametrize(
    ("answer_", "mistake", "says"),
    [
        (lambda x: x.square().mean().item(), "number-instead-of-tensor", "torch tensor without"),
        (lambda x: x.square().sum(), "wrong-value", "The result is"),
        (lambda x: x.square(), "wrong-shape", "The result has shape (1, 3, 4), expected ()"),
        (lambda x: [x.square().mean()], "list-instead-of-tensor", "is a list with 1 item"),
        (lambda x: x.detach().square().mean(), "right-values-only", "are right, but no gradient"),
        (lambda x: (x * x.detach()).mean(), "right-values-only", "such as their gradient"),
        (lambda x: print(end=""), "returned-none", "The result is None, expected a torch tensor"),
    ],
)
def test_what_an_exercise_adds_to_a_result_does_not_leak(answer_, mistake, says):
    assert LOSS.check(lambda x: torch.einsum("nij,nij->", x, x) / x.numel()).passed
    result = LOSS.check(answer_)
    assert result.mistake == mistake and says in result.message
    assert "tuple" not in result.message and "tem 0" not in result.message


def test_that_nothing_is_returned_is_said_first():
    def nothing(x, f):
        if x.shape[1] % 2:
            raise ValueError("odd")

    class Forgetful(SqueezeExcite):
        def forward(self, x):
            super().forward(x)

    result = SCALE.check(nothing)
    assert result.mistake == "returned-none" and "`return` missing" in result.message
    for forgetful in (Forgetful, lambda c, r: Forgetful(c, r), lambda c, r: print(end="")):
        result = EXCITE.check(forgetful)  # the exercise itself fails on the None
        assert result.mistake == "returned-none" and "raised" not in result.message
    number = Toy(lambda x, f: f * len(x), _scale_inputs)
    assert "missing" in number.check(lambda x, f: print(end="")).message


def test_a_slip_is_named_only_where_it_explains_every_input():
    def near(x, f):
        return scale(x, f) if len(x) == 1 else x

    def near_and_wrong(x, f):
        return near(x, f) if len(x) != 2 else scale(x, f) + 1

    sizes = (1, 3, 4, 2, 5)
    toy = Toy(
        scale, lambda rng: [(torch.rand(n, 3, 4) + 0.5, 2.0) for n in sizes], {"near": (near, "")}
    )
    assert toy.check(near).mistake == "near"
    assert toy.check(near_and_wrong).mistake == "wrong-value"


def counted():
    return 3, 4.5, 6


COUNTED = {"first-doubled": (lambda: (6, 4.5, 6), "First."), "last": (lambda: (3, 4.5, 7), "L.")}


@pytest.mark.parametrize(
    ("given", "mistake", "said"),
    [
        ((6, 4.5, 6), "first-doubled", "Not yet. First."),
        ((6, 1, 6), "first-doubled", "First. Right already: the third."),
        ((2, 1, 7), "last", "Not yet. L."),
        ((3, 4.5, 1), "wrong-value", "Right already: the first, the second."),
        ((1, 1, 1), "wrong-value", "(1, 1, 1) is not the answer."),
        ((3, 4.5), "wrong-length", "2 items"),
    ],
)
def test_several_numbers_are_judged_part_by_part(given, mistake, said):
    toy = Toy(counted, wrong=COUNTED)
    result = toy.check(given)
    assert result.mistake == mistake and said in result.message
    toy.text.otherwise = "Count again."
    assert toy.check((3, 4.5, 6)).passed
    assert ("Count again." in toy.check(given).message) == (mistake == "wrong-value")


def test_float64_results_and_tuples_are_accepted():
    assert SCALE.check(lambda x, f: scale(x.double(), f)).passed
    pair = Toy(lambda: [1.0, 2.0])
    assert pair.check((1, 2)).passed
    assert pair.check((1, 2, 3)).mistake == "wrong-length"


def test_changes_in_place_are_named():
    def in_place(images, factor):
        images *= factor / images.flatten(1).amax(1).view(-1, 1, 1)
        return images

    result = SCALE.check(in_place)
    assert result.mistake == "input-changed-in-place" and "`images`" in result.message


def test_a_result_is_judged_as_it_was_when_returned():
    buffer = torch.zeros(6, 6, 6)

    def reuses_a_buffer(images, factor):
        n, height, width = images.shape
        out = buffer[:n, :height, :width]
        out.copy_(scale(images, factor))
        return out

    assert SCALE.check(reuses_a_buffer).passed


def test_a_module_left_in_another_mode_is_noticed():
    def predict(model, images):
        return model(images)

    toy = Toy(
        predict,
        lambda rng: [(nn.BatchNorm1d(2).eval(), torch.randn(3, 2, generator=rng))],
        {"train-mode": (lambda m, x: m.train()(x), "In train mode.")},
    )
    assert toy.check(predict).passed
    assert toy.check(lambda m, x: m.train()(x)).mistake == "train-mode"

    def mode_forgotten(model, images):
        result = model(images)
        model.train()
        return result

    result = toy.check(mode_forgotten)
    assert result.mistake == "input-changed-in-place" and "train/eval mode" in result.message


# Not answered yet


def stub_of(base=nn.Module, **methods):
    """A class of the learner's with methods from these sources."""
    space = {"nn": nn, "base": base}
    body = "".join(f"    def {name}{code}\n" for name, code in methods.items()) or "    ...\n"
    exec(f"class Stub(base):\n{body}", space)
    return space["Stub"]


INIT = "(self, channels, reduction): super().__init__()"
REST = {"__init__": INIT, "forward": "(self, x): return x * self.weights(x)"}
BUILT = "(self, channels, reduction): base.__init__(self, channels, reduction); self.down = "
MODULE_STUBS = [
    stub_of(__init__=INIT, forward="(self, x): ..."),
    stub_of(__init__=INIT, forward="(self, x): return ..."),
    stub_of(**REST, weights="(self, x): ..."),
    stub_of(**REST, weights="(self, x): return self.pooled(x)", pooled="(self, x): 'A mean.'"),
    stub_of(),
    stub_of(SqueezeExcite, __init__="(self, channels, reduction): ..."),
    stub_of(SqueezeExcite, __init__=BUILT + "..."),
    stub_of(SqueezeExcite, __init__=BUILT + "nn.Linear(channels, ...)"),
    stub_of(SqueezeExcite, __init__=BUILT + "nn.Sequential(...)"),
]


@pytest.mark.parametrize("stub", MODULE_STUBS)
def test_stubs_of_modules_are_not_answered(stub):
    assert EXCITE.check(stub).mistake == "not-answered"
    if MODULE_STUBS.index(stub) < 3:
        assert EXCITE.check(stub(8, 2)).mistake == "not-answered"


def test_a_misspelt_forward_is_an_answer():
    class Misspelt(nn.Module):
        def __init__(self, channels, reduction):
            super().__init__()

        def froward(self, x):
            return x

    result = EXCITE.check(Misspelt)
    assert result.mistake == "raised" and 'missing the required "forward"' in result.message


def test_stubs_are_not_answered():
    def documented(images, factor):
        """Docstring."""

    def half_done(images, factor):
        largest = ...
        return images * factor / largest

    for stub in (..., None, documented, half_done, lambda x, f: ..., lambda x, f: (x, ...)):
        assert SCALE.check(stub).mistake == "not-answered"
    for stub in (..., None):
        assert VALUE.check(stub).mistake == "not-answered"
    assert "Not answered yet" in VALUE.check(...).message


# Whatever the learner's code does


def test_exception_names_the_learners_line():
    def broken(images, factor):
        total = images.sum()
        return torch.cat([images, total], dim=1)  # the line to be named

    result = SCALE.check(broken)
    assert result.mistake == "raised"
    assert "RuntimeError" in result.message
    assert "return torch.cat([images, total], dim=1)  # the line to be named" in result.message
    line = broken.__code__.co_firstlineno + 2
    assert f"line {line} of your code" in result.message


def test_endless_recursion_exit_and_odd_exceptions():
    def deeper(images, factor):
        return deeper(images, factor)

    class Rude(BaseException):
        def __str__(self):
            raise ValueError("no text")

    def rude(images, factor):
        raise Rude

    assert "RecursionError" in SCALE.check(deeper).message
    assert SCALE.check(lambda x, f: sys.exit(3)).mistake == "called-exit"
    assert SCALE.check(rude).mistake == "raised"


def test_keyboard_interrupt_passes_and_state_is_restored():
    def interrupted(images, factor):
        torch.set_grad_enabled(False)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SCALE.check(interrupted)
    assert torch.is_grad_enabled()


def _plain_loop(*_):
    while True:
        pass


def _catches_exception(*_):
    while True:
        try:  # noqa: SIM105
            math.sqrt(-1)
        except Exception:
            pass


def _catches_everything(*_):
    while True:
        try:  # noqa: SIM105
            time.sleep(0.01)
        except:  # noqa: E722
            pass


class EndlessConstructor(nn.Module):
    def __init__(self, channels, reduction):
        super().__init__()
        _plain_loop()


@pytest.mark.parametrize("loop", [_plain_loop, _catches_exception, _catches_everything])
def test_endless_loops_are_stopped(loop, monkeypatch):
    monkeypatch.setattr(engine, "SECONDS", 0.2)
    started = time.monotonic()
    result = SCALE.check(lambda images, factor: loop())
    assert result.mistake == "endless-loop" and "Stopped after 0.2 s" in result.message
    assert time.monotonic() - started < 6


def test_endless_constructor_is_stopped(monkeypatch):
    monkeypatch.setattr(engine, "SECONDS", 0.2)
    assert EXCITE.check(EndlessConstructor).mistake == "endless-loop"


@pytest.mark.parametrize("loop", [_catches_exception, _catches_everything])
def test_endless_loops_are_stopped_outside_the_main_thread(loop, monkeypatch):
    monkeypatch.setattr(engine, "SECONDS", 0.2)
    found = []

    def work():
        found.append(SCALE.check(lambda images, factor: loop()))
        until = time.monotonic() + 0.4  # a late exception would hit here
        while time.monotonic() < until:
            pass
        engine.SECONDS = 10
        found.append(SCALE.check(scale))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert [result.mistake for result in found] == ["endless-loop", None]


def test_a_solution_that_fails_judges_nobody():
    """A reference that raises must not count as agreement with an answer that raises."""

    def fails(x, f):
        raise RuntimeError("no such device")

    result = Toy(fails, _scale_inputs).check(fails)
    assert (result.passed, result.mistake) == (False, "not-judged")
    assert "the course's own solution fails" in result.message


def test_device_and_inference_mode_are_pinned_and_restored():
    torch.set_default_device("meta")
    try:
        with torch.inference_mode():
            assert SCALE.check(scale).passed
            assert EXCITE.check(SqueezeExcite).passed
            assert not SCALE.check(lambda x, f: x).passed
            assert torch.is_inference_mode_enabled()
        assert torch.get_default_device().type == "meta"
    finally:
        torch.set_default_device(None)


def test_state_is_restored_even_on_failure():
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    random.seed(3)
    expected = torch.rand(2), np.random.rand(2), random.random()  # noqa: NPY002
    threads = torch.get_num_threads()

    def vandal(images, factor):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        random.seed(0)
        torch.set_num_threads(3)
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        warnings.simplefilter("error", DeprecationWarning)
        sys.stdout = None
        raise RuntimeError

    filters, stdout = list(warnings.filters), sys.stdout
    for answer_ in (vandal, scale):
        torch.manual_seed(3)
        np.random.seed(3)  # noqa: NPY002
        random.seed(3)
        SCALE.check(answer_)
        assert torch.equal(torch.rand(2), expected[0])
        assert np.array_equal(np.random.rand(2), expected[1])  # noqa: NPY002
        assert random.random() == expected[2]
        assert torch.get_num_threads() == threads
        assert torch.is_grad_enabled()
        assert torch.get_default_dtype() == torch.float32
        assert warnings.filters == filters
        assert sys.stdout is stdout


def test_check_works_where_gradients_are_off_and_doubles_are_default():
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            assert EXCITE.check(SqueezeExcite).passed
            assert exercise("start.training_step").check(exercise("start.training_step").reference)
            assert not torch.is_grad_enabled()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_flood_of_output_is_cut(capsys):
    def chatty(images, factor):
        for i in range(20_000):
            print("line", i)
        return scale(images, factor)

    assert SCALE.check(chatty).passed
    shown = capsys.readouterr()
    assert "line 0" in shown.out and "line 7" in shown.out and "line 8\n" not in shown.out
    assert "100000 lines" in shown.out  # 5 inputs, 20,000 lines each
    assert len(shown.out) < 1000 and shown.err == ""


def test_a_few_lines_of_output_are_shown_in_full(capsys):
    def prints(images, factor):
        if len(images) == 4:
            print("shape", tuple(images.shape))
        return scale(images, factor)

    SCALE.check(prints)
    assert "Your code printed 1 line:\n  | shape (4, 2, 2)\n" in capsys.readouterr().out


class Evil:
    """Every special method that a judge might touch raises."""

    def _raise(self, *args, **kwargs):
        raise RuntimeError("evil")

    __eq__ = __ne__ = __repr__ = __str__ = __bool__ = __len__ = __iter__ = __call__ = _raise
    __getattr__ = __getitem__ = __float__ = __deepcopy__ = __copy__ = __array__ = _raise
    __hash__ = None


class Liar:
    @property
    def __class__(self):
        raise RuntimeError("liar")


class Pretender:
    __class__ = torch.Tensor


def _odd_objects():
    loop = []
    loop.append(loop)
    expanded = torch.zeros(1).expand(10**6, 10**6)
    tensors = [torch.zeros(()), torch.zeros(0), torch.ones(2, 3, dtype=torch.complex64), expanded]
    tensors += [torch.eye(3).to_sparse(), torch.empty(2, device="meta"), torch.tensor([True])]
    arrays = [np.zeros(3), np.array([None, {}]), np.float16(2), np.array("text")]
    numbers = [True, 0, -1.5, math.nan, math.inf, 10**400, 1j, Decimal("0.1"), Fraction(1, 3)]
    texts = ["", "dice", "\x00", b"bytes", memoryview(b"x"), "x" * 10**6]
    containers = [[], {}, set(), (), loop, {1: loop}, [torch.ones(2), None], range(3)]
    objects = [object(), Evil(), Liar(), Pretender(), MagicMock(), torch, ValueError("x"), iter([])]
    classes = [object, int, type, dict, Evil, nn.Module, nn.Linear, nn.Identity, MODULE_STUBS[0]]
    modules = [nn.Module(), nn.Linear(1, 1), nn.Sequential(), nn.LazyLinear(3)]
    calls = [print, len, sum, partial(int, "3"), torch.cat, (x for x in range(3)).send]
    calls += [lambda: 1, lambda *a: a, lambda *a: a[0], lambda *a, **k: Evil(), lambda a, b=1: a]
    odd = [NotImplemented, *tensors, *arrays, *numbers, *texts, *containers]
    return [*odd, *objects, *classes, *modules, *calls]


@pytest.mark.filterwarnings("ignore")
def test_no_object_makes_check_raise(capsys):
    generator = random.Random(0)
    odd = _odd_objects()
    shipped = [exercise(name) for name in ("images.dice", "start.accuracy", "images.iou_from_dice")]
    for i, thing in enumerate(odd):
        toys = [SCALE, EXCITE, GATE, VALUE, WORD, generator.choice(shipped)]
        for toy in toys:
            answers = [thing]
            if not toy.is_value:
                answers.append(lambda *arguments, thing=thing: thing)
            for candidate in answers:
                result = toy.check(candidate)
                assert isinstance(result.message, str) and result.message
                assert len(result.message) < 1500
                assert not result.passed or thing in (nn.Identity,), (i, toy.name)
                assert result.mistake
    capsys.readouterr()


# Result, hints, solution, names


def test_result_does_not_clutter_a_notebook():
    from IPython.core.formatters import DisplayFormatter

    result = SCALE.check(lambda x, f: x)
    assert DisplayFormatter().format(result) == ({}, {})
    assert len(repr(result)) < 60 and result.message not in repr(result)


def test_warnings_are_shown_to_a_wrong_answer_only(capsys):
    def warns(value):
        warnings.warn("look here (Triggered internally at /somewhere/x.cpp:1.)", stacklevel=1)
        return value

    ex = exercise("images.dice")
    assert ex.check(lambda prediction, truth: warns(ex.reference(prediction, truth)))
    assert capsys.readouterr().out.startswith("Right")
    assert not ex.check(lambda prediction, truth: warns(ex.reference(prediction, truth) / 3))
    shown = capsys.readouterr().out
    assert "  | UserWarning: look here\n" in shown
    assert "somewhere" not in shown and ".py:" not in shown


def test_hints_go_on_to_the_last_also_when_the_cell_runs_again(capsys):
    for _ in range(3):
        SCALE.hint()
    shown = capsys.readouterr().out
    assert shown.index("Hint 1 of 2: vague") < shown.index("Hint 2 of 2: plainer")
    assert shown.count("plainer") == 2
    name = exercise("images.dice").name
    exercise(name).hint()
    exercise(name).hint()
    assert "Hint 2" in capsys.readouterr().out


def test_solution_shows_code_and_idea(capsys):
    ex = exercise("start.accuracy")
    ex.solution()
    shown = " ".join(capsys.readouterr().out.split())
    assert "def accuracy(logits, labels): predicted = logits.squeeze(1) >= 0" in shown
    assert ex.why in shown
    exercise("start.untrained_loss").solution()
    shown = capsys.readouterr().out
    assert "-math.log(0.5)" in shown and shown.endswith("untrained_loss = 0.693147\n")


def test_solution_source_of_a_value_ends_in_the_value():
    cell = {}
    exec(solution_source("images.iou_from_dice"), cell)
    assert cell["iou_from_dice"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("images.dise", "images.dice"),
        ("dice", "images.dice"),
        ("start.Accuracy", "start.accuracy"),
        ("image.auroc", "images.auroc"),
        ("zzz", "start.accuracy"),
        (None, "pooling.top_one"),
    ],
)
def test_unknown_name_lists_near_ones(name, near):
    with pytest.raises(ValueError, match=near):
        exercise(name)


def test_printed_prose_is_wrapped_and_code_is_not(capsys):
    def broken(images, factor):
        return images.sum(dim="a name which is no axis of the images", out=images * 2 * factor)

    long = "Prose that goes on and on, `with_code` and a half-way word. " * 5
    toy = Toy(scale, lambda rng: [(torch.rand(1, 3, 4), 2.0)], {"all": (lambda x, f: x, long)})
    toy.check(lambda x, f: x)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 88 and " ".join(lines).count("half-way") == 5
    result = toy.check(broken)
    lines = capsys.readouterr().out.splitlines()
    code = next(line for line in lines if line.startswith("in line"))
    assert code.endswith("out=images * 2 * factor)") and len(code) > 88
    assert code in result.message.splitlines()
    assert any(line.startswith("  images = ") and len(line) > 88 for line in lines)


# Progress


def test_solved_exercises_are_remembered(progress_file):
    ex = exercise("start.majority_accuracy")
    assert progress()[0]["solved"] == 0
    ex.check(0.5)
    assert not progress_file.exists()
    ex.check(0.625)
    ex.check(0.625)
    assert json.loads(progress_file.read_text()) == {"solved": ["start.majority_accuracy"]}
    row = progress()[0]
    assert (row["chapter"], row["solved"]) == ("00_start_here", 1)
    assert row["total"] == len(row["open"]) + 1
    assert "start.majority_accuracy" not in row["open"]
    ex.check(0.5)  # solved is solved
    assert sum(row["solved"] for row in progress()) == 1


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"solved": 3}', '{"solved": [1, null, {}]}', "\udcff", "[" * 9999],
)
def test_corrupt_progress_file_does_no_harm(text, progress_file):
    progress_file.parent.mkdir()
    progress_file.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert progress()[0]["solved"] == 0
    assert exercise("start.majority_accuracy").check(0.625).passed
    assert progress()[0]["solved"] == 1


def test_unwritable_progress_is_said_and_does_no_harm(tmp_path, monkeypatch, capsys):
    blocked = tmp_path / "a file"
    blocked.write_text("in the way")
    monkeypatch.setenv("COURSE_PROGRESS", str(blocked / "progress.json"))
    assert exercise("start.majority_accuracy").check(0.625).passed
    assert "could not be saved" in capsys.readouterr().out
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path))  # a folder where the file should be
    assert exercise("start.majority_accuracy").check(0.625).passed
    assert "could not be saved" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["a file"]  # no temporary file stays


# In a notebook


def test_in_a_real_kernel(monkeypatch, tmp_path):
    import nbformat
    from nbclient import NotebookClient

    cells = [
        "import sys, torch\nfrom course_utils.exercises import engine, exercise\n"
        "ex = exercise('images.dice')",
        "def dice(prediction, truth):\n    while True:\n        pass\n"
        "engine.SECONDS = 0.3\nresult = ex.check(dice)\nengine.SECONDS = 10\nresult",
        "import warnings\ndef dice(prediction, truth):\n    warnings.warn('look here')\n"
        "    return torch.stack([truth, 3])\nex.check(dice)",
        "def dice(prediction, truth):\n    sys.exit()\nex.check(dice)",
        "def dice(prediction, truth): ...\nex.check(dice)",
        solution_source("images.dice") + "\nex.check(dice)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    outputs = [cell["outputs"] for cell in notebook.cells]
    assert outputs[0] == []
    assert all(len(cell) == 1 for cell in outputs[1:])  # no error, no repr, nothing on stderr
    shown = [cell[0].get("data", {}) for cell in outputs[1:]]
    texts = [
        cell[0].get("text") or data["text/plain"]
        for data, (*cell,) in zip(shown, outputs[1:], strict=True)
    ]
    assert "Stopped after 0.3 s" in texts[0]
    assert "line 4 of your code: return torch.stack([truth, 3])" in texts[1]
    assert "| " in texts[1] and "UserWarning: look here" in texts[1]
    assert "exit" in texts[2]
    assert "Not answered yet" in texts[3] and not shown[3]
    assert texts[4].startswith("Right")
    boxes = [data.get("text/html", "") for data in shown]
    assert "<summary>Hint 1</summary>" in boxes[0] and "<summary>Solution</summary>" in boxes[2]
    assert "&#10003;" in boxes[4] and "<summary>" not in boxes[4]
