"""Exercises of chapter 02: gates, softmax, dot-product attention, places, cost, stuck gates."""

# The right and the wrong answers are code as a learner would write it in a notebook: they import
# what they need besides torch themselves, and a solution is shown as it stands here.

import torch

from .engine import Exercise, Inputs

# A gate by hand -------------------------------------------------------------------------------


def gate(x, weight, bias):
    score = (x * weight[:, None, None]).sum(1, keepdim=True) + bias  # (N, 1, H, W)
    return x * torch.sigmoid(score)


def softmax_over_places(x, weight, bias):
    score = (x * weight[:, None, None]).sum(1, keepdim=True) + bias
    return x * score.flatten(2).softmax(-1).view_as(score)


def softmax_over_one_channel(x, weight, bias):
    score = (x * weight[:, None, None]).sum(1, keepdim=True) + bias
    return x * score.softmax(1)


def weights_only(x, weight, bias):
    return torch.sigmoid((x * weight[:, None, None]).sum(1, keepdim=True) + bias)


def sigmoid_forgotten(x, weight, bias):
    return x * ((x * weight[:, None, None]).sum(1, keepdim=True) + bias)


def one_map_per_channel(x, weight, bias):
    return x * torch.sigmoid(x * weight[:, None, None] + bias)


def bias_forgotten(x, weight, bias):
    return x * torch.sigmoid((x * weight[:, None, None]).sum(1, keepdim=True))


def mean_over_channels(x, weight, bias):
    return x * torch.sigmoid((x * weight[:, None, None]).mean(1, keepdim=True) + bias)


def one_weight_per_image(x, weight, bias):
    score = (x.mean((2, 3), keepdim=True) * weight[:, None, None]).sum(1, keepdim=True) + bias
    return x * torch.sigmoid(score)


def one_score_per_image(x, weight, bias):
    score = (x * weight[:, None, None]).sum((1, 2, 3), keepdim=True) + bias
    return x * torch.sigmoid(score)


def axis_lost(x, weight, bias):
    score = (x * weight[:, None, None]).sum(1) + bias
    return x * torch.sigmoid(score)


def input_added(x, weight, bias):
    score = (x * weight[:, None, None]).sum(1, keepdim=True) + bias
    return x + x * torch.sigmoid(score)


def score_gated(x, weight, bias):
    score = (x * weight[:, None, None]).sum(1, keepdim=True) + bias
    return score * torch.sigmoid(score)


def thresholded(x, weight, bias):
    score = (x * weight[:, None, None]).sum(1, keepdim=True) + bias
    return x * (score > 0)


def bias_in_the_sum(x, weight, bias):
    return x * torch.sigmoid((x * weight[:, None, None] + bias).sum(1, keepdim=True))


def summed_over_columns(x, weight, bias):
    return x * torch.sigmoid((x * weight[:, None, None]).sum(-1, keepdim=True) + bias)


def summed_over_images(x, weight, bias):
    return x * torch.sigmoid((x * weight[:, None, None]).sum(0, keepdim=True) + bias)


def closed_where_it_should_be_open(x, weight, bias):
    score = (x * weight[:, None, None]).sum(1, keepdim=True) + bias
    return x * (1 - torch.sigmoid(score))


def axis_lost_weights_first(x, weight, bias):
    return torch.sigmoid((x * weight[:, None, None]).sum(1) + bias) * x


def weight_beside_the_columns(x, weight, bias):
    return x * torch.sigmoid((x * weight).sum(1, keepdim=True) + bias)


def softmax_over_the_columns(x, weight, bias):
    return x * ((x * weight[:, None, None]).sum(1, keepdim=True) + bias).softmax(-1)


def softmax_over_the_rows(x, weight, bias):
    return x * ((x * weight[:, None, None]).sum(1, keepdim=True) + bias).softmax(-2)


def softmax_over_the_images(x, weight, bias):
    return x * ((x * weight[:, None, None]).sum(1, keepdim=True) + bias).softmax(0)


def softmax_over_the_channels(x, weight, bias):
    return x * (x * weight[:, None, None] + bias).softmax(1)


def bias_after_the_sigmoid(x, weight, bias):
    return x * (torch.sigmoid((x * weight[:, None, None]).sum(1, keepdim=True)) + bias)


def bias_after_the_product(x, weight, bias):
    return x * torch.sigmoid((x * weight[:, None, None]).sum(1, keepdim=True)) + bias


def bias_subtracted(x, weight, bias):
    return x * torch.sigmoid((x * weight[:, None, None]).sum(1, keepdim=True) - bias)


def relu_of_the_score(x, weight, bias):
    return x * torch.relu((x * weight[:, None, None]).sum(1, keepdim=True) + bias)


def tanh_of_the_score(x, weight, bias):
    return x * torch.tanh((x * weight[:, None, None]).sum(1, keepdim=True) + bias)


def one_weight_per_channel(x, weight, bias):
    return x * torch.sigmoid((x * weight[:, None, None]).sum((2, 3), keepdim=True) + bias)


def _features_and_layers(rng: torch.Generator) -> Inputs:
    sizes = ((1, 2, 4, 4), (2, 3, 5, 4), (3, 3, 4, 6), (1, 1, 3, 3), (4, 2, 3, 5))
    return [
        (
            torch.randn(size, generator=rng),
            torch.randn(size[1], generator=rng),
            0.5 + torch.rand((), generator=rng),
        )
        for size in sizes
    ]


GATE = Exercise(
    name="theory.gate",
    question=(
        "Write gate(x, weight, bias), which weighs each place of an image with a sigmoid gate and "
        "returns the weighed features. "
        "`x` is float32 (N, C, H, W), `weight` (C,) and `bias` a tensor without axes. A place's "
        "score is the sum over the channels of weight times feature, plus the bias, as a 1x1 "
        "convolution to one channel computes it; its sigmoid, one weight per image and place, "
        "multiplies all channels. Return (N, C, H, W), and leave `x` as it was."
    ),
    reference=gate,
    make_inputs=_features_and_layers,
    wrong={
        "softmax-for-sigmoid": (
            softmax_over_places,
            "Your weights compete: they sum to one over the places. In a gate each place is "
            "weighed on its own.",
        ),
        "softmax-over-one-channel": (
            softmax_over_one_channel,
            "All your weights are 1, so that nothing is weighed. A softmax along an axis of length "
            "one can give nothing else.",
        ),
        "softmax-over-columns": (
            softmax_over_the_columns,
            "Your weights compete along the last axis: they sum to one in each row of the image. "
            "In a gate each place is weighed on its own.",
        ),
        "softmax-over-rows": (
            softmax_over_the_rows,
            "Your weights compete along axis 2: they sum to one in each column of the image. In a "
            "gate each place is weighed on its own.",
        ),
        "softmax-over-batch": (
            softmax_over_the_images,
            "Your weights compete along the batch: the images share out a sum of one. In a gate "
            "each image and place is weighed on its own.",
        ),
        "softmax-over-channels": (
            softmax_over_the_channels,
            "Your channels compete, each with a weight of its own. Asked for is one weight per "
            "place, the sigmoid of one score.",
        ),
        "weights-returned": (
            weights_only,
            "These are the weights. The third step is missing: reweight the features.",
        ),
        "sigmoid-forgotten": (
            sigmoid_forgotten,
            "You multiply by the scores themselves. They run over all real numbers; a gate lies "
            "between 0 and 1.",
        ),
        "relu-for-sigmoid": (
            relu_of_the_score,
            "You multiply by the ReLU of the score. It has no upper limit; a gate lies between 0 "
            "and 1.",
        ),
        "tanh-for-sigmoid": (
            tanh_of_the_score,
            "A tanh runs from -1 to 1 and can turn the sign of a feature round. A gate lies "
            "between 0 and 1.",
        ),
        "bias-after-sigmoid": (
            bias_after_the_sigmoid,
            "The bias comes too late: it belongs to the score, before the sigmoid.",
        ),
        "bias-after-product": (
            bias_after_the_product,
            "The bias comes too late: it belongs to the score, before the sigmoid.",
        ),
        "bias-subtracted": (bias_subtracted, "You subtract the bias. It is to be added."),
        "one-weight-per-channel": (
            one_weight_per_channel,
            "You sum over the places, so that each channel has one weight. The score of a place "
            "sums over its channels.",
        ),
        "one-map-per-channel": (
            one_map_per_channel,
            "Each channel has a map of its own. Asked for is one weight per place, which looks at "
            "all channels together.",
        ),
        "bias-forgotten": (bias_forgotten, "The bias is missing from the score."),
        "mean-for-sum": (
            mean_over_channels,
            "You take the mean over the channels. A 1x1 convolution adds them up.",
        ),
        "one-weight-per-image": (
            one_weight_per_image,
            "There is one weight for the whole image: the places were averaged before the score "
            "was computed. A spatial gate keeps them apart.",
        ),
        "one-score-per-image": (
            one_score_per_image,
            "There is one weight for the whole image: your sum runs over the places, too. A score "
            "sums over the channels of one place.",
        ),
        "axis-lost": (
            axis_lost,
            "The map has lost its channel axis. With (N, H, W) broadcasting sets the images beside "
            "the channels, which fails, or is wrong without a word. (N, 1, H, W) is needed.",
        ),
        "axis-lost-weights-first": (
            axis_lost_weights_first,
            "The map has lost its channel axis. With (N, H, W) broadcasting sets the images beside "
            "the channels, which fails, or is wrong without a word. (N, 1, H, W) is needed.",
        ),
        "weight-beside-columns": (
            weight_beside_the_columns,
            "Broadcasting sets the last axes beside each other, so that the C weights meet the "
            "columns of the image and not its channels.",
        ),
        "bias-in-the-sum": (
            bias_in_the_sum,
            "The bias is added once per channel. It belongs to the score, once.",
        ),
        "summed-over-columns": (
            summed_over_columns,
            "You sum over the columns of the image. The score of a place sums over its channels.",
        ),
        "summed-over-images": (
            summed_over_images,
            "You sum over the images of the batch. Each image is weighed by itself.",
        ),
        "inverted": (
            closed_where_it_should_be_open,
            "Your gate closes where the score is high.",
        ),
        "input-added": (
            input_added,
            "You add the input to the weighed features. Here a closed gate must give 0.",
        ),
        "score-weighed": (
            score_gated,
            "You weigh the score. What is to be weighed are the features it was computed from.",
        ),
        "hard-gate": (
            thresholded,
            "Your weights are 0 or 1. That is a hard gate, and no gradient passes through a "
            "comparison.",
        ),
    },
    hints=(
        "Three steps: the features are there; compute a score and from it a weight; multiply.",
        "Give `weight` the axes it lacks, so that its C numbers stand beside the channels.",
        "Sum over axis 1 and keep that axis; add the bias; take the sigmoid; multiply into a new "
        "tensor.",
    ),
    why=(
        "One score per place, a sigmoid of it, and broadcasting over the channels. The axis kept "
        "by keepdim is what makes (N, 1, H, W) fit beside (N, C, H, W)."
    ),
)


# Softmax with a temperature -----------------------------------------------------------------------


def temperature_softmax(scores, temperature):
    scores = scores / temperature
    powers = torch.exp(scores - scores.amax(-1, keepdim=True))  # at most 1, whatever the scores
    return powers / powers.sum(-1, keepdim=True)


def temperature_multiplied(scores, temperature):
    return torch.softmax(scores * temperature, dim=-1)


def divided_after_softmax(scores, temperature):
    return torch.softmax(scores, dim=-1) / temperature


def along_the_first_axis(scores, temperature):
    return torch.softmax(scores / temperature, dim=0)


def over_all_values(scores, temperature):
    return torch.softmax((scores / temperature).flatten(), dim=0).view_as(scores)


def exponential_overflows(scores, temperature):
    exponentials = torch.exp(scores / temperature)
    return exponentials / exponentials.sum(-1, keepdim=True)


def exponential_in_double(scores, temperature):
    exponentials = torch.exp(scores.double() / temperature)
    return (exponentials / exponentials.sum(-1, keepdim=True)).float()


def maximum_not_divided(scores, temperature):
    exponentials = torch.exp(scores / temperature - scores.amax(-1, keepdim=True))
    return exponentials / exponentials.sum(-1, keepdim=True)


def little_added_below(scores, temperature):
    exponentials = torch.exp(scores / temperature)
    return exponentials / (exponentials.sum(-1, keepdim=True) + 1e-9)


def nan_replaced(scores, temperature):
    exponentials = torch.exp(scores / temperature)
    return (exponentials / exponentials.sum(-1, keepdim=True)).nan_to_num()


def clamped_above(scores, temperature):
    exponentials = torch.exp((scores / temperature).clamp(max=80))
    return exponentials / exponentials.sum(-1, keepdim=True)


def clamped_on_both_sides(scores, temperature):
    exponentials = torch.exp((scores / temperature).clamp(-80, 80))
    return exponentials / exponentials.sum(-1, keepdim=True)


def root_of_the_temperature(scores, temperature):
    return torch.softmax(scores / temperature**0.5, dim=-1)


def axis_of_the_sum_lost(scores, temperature):
    exponentials = torch.exp(scores / temperature)
    return exponentials / exponentials.sum(-1)


def power_with_sum(scores, temperature):
    powers = torch.softmax(scores, dim=-1) ** (1 / temperature)
    return powers / powers.sum(-1, keepdim=True)


def one_maximum_for_all(scores, temperature):
    scores = scores / temperature
    exponentials = torch.exp(scores - scores.max())
    return exponentials / exponentials.sum(-1, keepdim=True)


def sigmoid_of_scores(scores, temperature):
    return torch.sigmoid(scores / temperature)


def logarithms_returned(scores, temperature):
    return torch.log_softmax(scores / temperature, dim=-1)


def temperature_ignored(scores, temperature):
    return torch.softmax(scores, dim=-1)


def divided_by_the_sum(scores, temperature):
    scores = scores / temperature
    return scores / scores.sum(-1, keepdim=True)


def along_axis_one(scores, temperature):
    return torch.softmax(scores / temperature, dim=1)


def power_without_sum(scores, temperature):
    return torch.softmax(scores, dim=-1) ** (1 / temperature)


def minimum_subtracted(scores, temperature):
    scores = scores / temperature
    exponentials = torch.exp(scores - scores.amin(-1, keepdim=True))
    return exponentials / exponentials.sum(-1, keepdim=True)


def mean_subtracted(scores, temperature):
    scores = scores / temperature
    exponentials = torch.exp(scores - scores.mean(-1, keepdim=True))
    return exponentials / exponentials.sum(-1, keepdim=True)


def maximum_divided_twice(scores, temperature):
    scores = scores - scores.amax(-1, keepdim=True) / temperature
    exponentials = torch.exp(scores / temperature)
    return exponentials / exponentials.sum(-1, keepdim=True)


def maximum_with_places(scores, temperature):
    scores = scores / temperature
    exponentials = torch.exp(scores - scores.max(-1, keepdim=True))
    return exponentials / exponentials.sum(-1, keepdim=True)


def sum_of_all_rows(scores, temperature):
    scores = scores / temperature
    exponentials = torch.exp(scores - scores.amax(-1, keepdim=True))
    return exponentials / exponentials.sum()


def sum_forgotten(scores, temperature):
    scores = scores / temperature
    return torch.exp(scores - scores.amax(-1, keepdim=True))


def _scores_and_temperatures(rng: torch.Generator) -> Inputs:
    cases = (((5,), 0.5), ((3, 4), 2.0), ((2, 3, 6), 5.0), ((1, 7), 0.25), ((4, 5), 1.0))
    inputs = [(2 * torch.randn(size, generator=rng), t) for size, t in cases]
    # Rows beyond what exp can hold in float32, but not in float64; beyond both; and one row of
    # large differences at a temperature that makes them small.
    apart = torch.randn(7, 3, generator=rng) + 200 * torch.arange(-3, 4)[:, None]
    far_apart = torch.randn(6, 4, generator=rng) + 400 * torch.arange(-2, 4)[:, None]
    hot = 30 * torch.randn(2, 6, generator=rng) + 200 * torch.arange(-2, 4)
    wide = torch.randn(2, 4, generator=rng) + 250 * torch.arange(4)  # far apart within a row
    return [*inputs, (apart, 1.0), (far_apart, 0.5), (hot, 250.0), (wide, 0.5)]


TEMPERATURE_SOFTMAX = Exercise(
    name="theory.temperature_softmax",
    question=(
        "Write temperature_softmax(scores, temperature), the softmax along the last axis with a "
        "temperature. "
        "`scores` is float32 (..., S) with any number of axes, `temperature` a Python float above "
        "0. Return a tensor of the same shape whose rows along the last axis sum to one. Scores "
        "may be as large as 1000, and differ by as much, from row to row or within a row; the "
        "temperature may be as large. The result must be finite and right then, too. Try it from "
        "exponentials and sums, without PyTorch's ready softmax."
    ),
    reference=temperature_softmax,
    make_inputs=_scores_and_temperatures,
    wrong={
        "temperature-multiplied": (
            temperature_multiplied,
            "Your temperature works the wrong way round: with you a high temperature sharpens.",
        ),
        "divided-after-softmax": (
            divided_after_softmax,
            "The temperature comes too late: your rows sum to 1 / temperature instead of 1.",
        ),
        "first-axis": (
            along_the_first_axis,
            "The weights compete along the first axis. Asked for is the last one.",
        ),
        "axis-one": (
            along_axis_one,
            "Axis 1 is the last one only if there are two. Count from the end.",
        ),
        "power-without-sum": (
            power_without_sum,
            "A power of the weights has the right proportions, but the rows no longer sum to one.",
        ),
        "all-values": (
            over_all_values,
            "All values together sum to one. Each row along the last axis should do so by itself.",
        ),
        "overflow": (
            exponential_overflows,
            "Right for small scores. exp(1000) is infinite, and infinity by infinity is NaN.",
        ),
        "overflow-in-double": (
            exponential_in_double,
            "Double precision moves the limit, from about exp(88) to exp(709), and does not lift "
            "it: exp(1000) is infinite there, too.",
        ),
        "maximum-not-divided": (
            maximum_not_divided,
            "You subtract the maximum of the scores from scores that are divided by the "
            "temperature already. It must be the maximum of what is exponentiated.",
        ),
        "maximum-divided-twice": (
            maximum_divided_twice,
            "You divide the maximum by the temperature, and then once more together with the "
            "scores. It must be the maximum of what it is subtracted from.",
        ),
        "minimum-subtracted": (
            minimum_subtracted,
            "You subtract the smallest score of a row. What is left is above 0, and if the scores "
            "of a row are far apart its exponential is infinite.",
        ),
        "mean-subtracted": (
            mean_subtracted,
            "You subtract the mean of a row. If its scores are far apart, the highest is still far "
            "above 0, and its exponential infinite.",
        ),
        "maximum-with-places": (
            maximum_with_places,
            "With an axis `max` returns two tensors, the values and where they stand. Take "
            "`.values`, or `amax`.",
        ),
        "sum-of-all-rows": (
            sum_of_all_rows,
            "You divide by the sum of all exponentials. Each row along the last axis should sum to "
            "one by itself.",
        ),
        "sum-forgotten": (
            sum_forgotten,
            "These are the exponentials. Divided by the sum of their row they sum to one.",
        ),
        "little-added-below": (
            little_added_below,
            "A small number in the denominator keeps 0 by 0 from being NaN, but such a row is then "
            "all 0 and does not sum to one. And infinity by infinity is NaN as before.",
        ),
        "nan-replaced": (
            nan_replaced,
            "The result is finite, but where NaN stood there is 0 now, and the row does not sum to "
            "one. Keep the exponentials from getting infinite, or all 0, in the first place.",
        ),
        "clamped-above": (
            clamped_above,
            "Cut off above, large scores become equal, and so do their weights. A row of very "
            "negative scores gives 0 by 0 as before.",
        ),
        "clamped-on-both-sides": (
            clamped_on_both_sides,
            "The result is finite, but scores that you cut off become equal, and so do their "
            "weights. A shift of the whole row would leave the differences as they are.",
        ),
        "root-of-temperature": (
            root_of_the_temperature,
            "You divide by the root of the temperature. The root of d was a temperature itself.",
        ),
        "axis-of-the-sum-lost": (
            axis_of_the_sum_lost,
            "A sum or maximum along the last axis takes this axis away, and then broadcasting sets "
            "wrong axes beside each other. Keep it with length 1.",
        ),
        "power-with-sum": (
            power_with_sum,
            "Right as long as the scores are near each other. Far below the highest one the first "
            "softmax rounds to 0, and no power brings back what is 0, however high the "
            "temperature. Change the scores before anything is exponentiated.",
        ),
        "one-maximum-for-all": (
            one_maximum_for_all,
            "Nearly: you subtract one maximum from all rows. In a row far below it every "
            "exponential rounds to 0, and 0 by 0 is NaN.",
        ),
        "sigmoid-for-softmax": (
            sigmoid_of_scores,
            "These are gates: each on its own, and the rows do not sum to one.",
        ),
        "logarithms": (logarithms_returned, "These are the logarithms of the weights."),
        "temperature-ignored": (temperature_ignored, "The temperature has no effect yet."),
        "exponential-forgotten": (
            divided_by_the_sum,
            "You divide the scores by their sum. Scores can be negative, and the weights must not: "
            "the exponential is missing.",
        ),
    },
    hints=(
        "Which way does the limit go: what should be left at a temperature near 0?",
        "The temperature changes the scores, before anything is exponentiated.",
        "Divide by the temperature; subtract each row's own maximum; exponentiate; divide by the "
        "sum of the row.",
    ),
    why=(
        "Dividing the scores by the temperature stretches or shrinks their differences, and only "
        "differences count in a softmax. So the maximum of a row may be subtracted: the largest "
        "exponential is then 1. torch.softmax does the same."
    ),
)


# Dot-product attention ----------------------------------------------------------------------------


def dot_product_attention(query, key, value):
    scores = query @ key.mT / query.shape[-1] ** 0.5  # (..., L, S)
    return scores.softmax(-1) @ value


def without_scale(query, key, value):
    return (query @ key.mT).softmax(-1) @ value


def divided_by_d(query, key, value):
    return (query @ key.mT / query.shape[-1]).softmax(-1) @ value


def multiplied_by_the_root(query, key, value):
    return (query @ key.mT * query.shape[-1] ** 0.5).softmax(-1) @ value


def root_of_the_number_of_keys(query, key, value):
    return (query @ key.mT / key.shape[-2] ** 0.5).softmax(-1) @ value


def root_of_the_value_width(query, key, value):
    return (query @ key.mT / value.shape[-1] ** 0.5).softmax(-1) @ value


def root_of_axis_one(query, key, value):
    return (query @ key.mT / query.shape[1] ** 0.5).softmax(-1) @ value


def root_of_axis_one_of_the_key(query, key, value):
    return (query @ key.mT / key.shape[1] ** 0.5).softmax(-1) @ value


def root_of_the_number_of_queries(query, key, value):
    return (query @ key.mT / query.shape[-2] ** 0.5).softmax(-1) @ value


def root_of_the_first_axis(query, key, value):
    return (query @ key.mT / len(query) ** 0.5).softmax(-1) @ value


def all_axes_transposed(query, key, value):  # what key.T does; it warns beyond two axes
    turned = key.permute(*reversed(range(key.ndim)))
    return (query @ turned / query.shape[-1] ** 0.5).softmax(-1) @ value


def transposed_by_t(query, key, value):
    return (query @ key.t() / query.shape[-1] ** 0.5).softmax(-1) @ value


def softmax_over_axis_zero(query, key, value):
    return (query @ key.mT / query.shape[-1] ** 0.5).softmax(0) @ value


def softmax_over_the_queries(query, key, value):
    return (query @ key.mT / query.shape[-1] ** 0.5).softmax(-2) @ value


def softmax_over_axis_one(query, key, value):
    return (query @ key.mT / query.shape[-1] ** 0.5).softmax(1) @ value


def key_not_transposed(query, key, value):
    return (query @ key / query.shape[-1] ** 0.5).softmax(-1) @ value


def first_axes_transposed(query, key, value):
    return (query @ key.transpose(0, 1) / query.shape[-1] ** 0.5).softmax(-1) @ value


def softmax_last(query, key, value):
    return (query @ key.mT / query.shape[-1] ** 0.5 @ value).softmax(-1)


def softmax_missing(query, key, value):
    return query @ key.mT / query.shape[-1] ** 0.5 @ value


def scale_after_softmax(query, key, value):
    return (query @ key.mT).softmax(-1) / query.shape[-1] ** 0.5 @ value


def weights_without_values(query, key, value):
    return (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)


def sigmoid_weights(query, key, value):
    return torch.sigmoid(query @ key.mT / query.shape[-1] ** 0.5) @ value


def keys_taken(query, key, value):
    return (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1) @ key


def queries_and_keys_exchanged(query, key, value):
    return (key @ query.mT / query.shape[-1] ** 0.5).softmax(-1) @ value


def query_transposed(query, key, value):
    return (query.mT @ key / query.shape[-1] ** 0.5).softmax(-1) @ value


def axes_one_and_two_transposed(query, key, value):
    return (query @ key.transpose(1, 2) / query.shape[-1] ** 0.5).softmax(-1) @ value


def softmax_over_axis_two(query, key, value):
    return (query @ key.mT / query.shape[-1] ** 0.5).softmax(2) @ value


def products_by_bmm(query, key, value):
    scores = torch.bmm(query, key.mT) / query.shape[-1] ** 0.5
    return torch.bmm(scores.softmax(-1), value)


def root_of_the_first_axis_of_the_key(query, key, value):
    return (query @ key.mT / len(key) ** 0.5).softmax(-1) @ value


def softmax_over_all_pairs(query, key, value):
    scores = query @ key.mT / query.shape[-1] ** 0.5
    return scores.flatten().softmax(0).view_as(scores) @ value


def axis_of_the_exponentials_lost(query, key, value):
    exponentials = torch.exp(query @ key.mT / query.shape[-1] ** 0.5)
    return exponentials / exponentials.sum(-1) @ value


def not_normalised(query, key, value):
    return torch.exp(query @ key.mT / query.shape[-1] ** 0.5) @ value


def best_key_only(query, key, value):
    scores = query @ key.mT
    return torch.nn.functional.one_hot(scores.argmax(-1), scores.shape[-1]).float() @ value


def _queries_keys_values(rng: torch.Generator) -> Inputs:
    sizes = (
        ((), 3, 5, 4, 2),
        ((2,), 3, 5, 4, 6),
        ((2, 3), 4, 6, 8, 5),
        ((1,), 6, 6, 6, 6),
        ((3,), 1, 2, 3, 4),
    )
    return [
        tuple(torch.randn(*batch, *tail, generator=rng) for tail in ((n, d), (m, d), (m, e)))
        for batch, n, m, d, e in sizes
    ]


ATTENTION = Exercise(
    name="theory.dot_product_attention",
    question=(
        "Write dot_product_attention(query, key, value), scaled dot-product attention. "
        "`query` is float32 (..., L, d), `key` (..., S, d), `value` (..., S, e); the leading axes "
        "are those of a batch, none, one or several, and the same in all three. Return (..., L, "
        "e): each query's weighted mean of the values. Try it without PyTorch's ready function."
    ),
    reference=dot_product_attention,
    make_inputs=_queries_keys_values,
    wrong={
        "scale-forgotten": (
            without_scale,
            "The scores are not scaled. The longer the vectors, the nearer your softmax is to "
            "picking a single key.",
        ),
        "divided-by-d": (
            divided_by_d,
            "You divide by d. Its square root is what brings the standard deviation to one.",
        ),
        "multiplied-by-root": (
            multiplied_by_the_root,
            "You multiply by the root of d: that makes the scores larger still.",
        ),
        "root-of-number-of-keys": (
            root_of_the_number_of_keys,
            "You scale by the number of keys. The sum in a dot product runs over something else.",
        ),
        "root-of-value-width": (
            root_of_the_value_width,
            "You scale by the width of the values. They take no part in the dot product.",
        ),
        "root-of-axis-one": (
            root_of_axis_one,
            "Right without a batch. With one, axis 1 holds no longer the width of the vectors: "
            "count axes from the end.",
        ),
        "root-of-axis-one-of-key": (
            root_of_axis_one_of_the_key,
            "Right without a batch. With one, axis 1 of `key` is the number of keys: count axes "
            "from the end.",
        ),
        "root-of-number-of-queries": (
            root_of_the_number_of_queries,
            "You scale by the number of queries. The sum in a dot product runs over something "
            "else.",
        ),
        "root-of-first-axis": (
            root_of_the_first_axis,
            "len(x) is the length of the first axis, that is, the number of queries or of cases in "
            "the batch. For a single query (d,) it was d. Count axes from the end.",
        ),
        "all-axes-transposed": (
            all_axes_transposed,
            "Right without a batch. `.T` turns round the order of all axes, those of the batch "
            "among them; only the last two are to be exchanged.",
        ),
        "transposed-by-t": (
            transposed_by_t,
            "Right without a batch. `.t()` is for matrices only; with a batch the last two axes "
            "are to be exchanged.",
        ),
        "softmax-over-axis-zero": (
            softmax_over_axis_zero,
            "Your softmax runs along the first axis: the queries, or with a batch the cases. Each "
            "query should share out its attention among the keys.",
        ),
        "softmax-over-queries": (
            softmax_over_the_queries,
            "Your weights sum to one over the queries. Each query should share out its attention "
            "among the keys.",
        ),
        "softmax-over-axis-one": (
            softmax_over_axis_one,
            "Right without a batch. With one, axis 1 is no longer that of the keys: count axes "
            "from the end.",
        ),
        "key-not-transposed": (
            key_not_transposed,
            "The key must be transposed: each query meets each key, (L, d) times (d, S).",
        ),
        "queries-and-keys-exchanged": (
            queries_and_keys_exchanged,
            "Queries and keys are exchanged: with (S, d) times (d, L) a row belongs to a key. Each "
            "row of the scores should belong to a query.",
        ),
        "query-transposed": (
            query_transposed,
            "You transpose the query. Each query meets each key, (L, d) times (d, S): it is the "
            "key that must be transposed.",
        ),
        "axes-one-and-two-transposed": (
            axes_one_and_two_transposed,
            "Right with one batch axis. Without one, or with two, axes 1 and 2 are others: count "
            "axes from the end.",
        ),
        "softmax-over-axis-two": (
            softmax_over_axis_two,
            "Right with one batch axis. Without one, or with two, axis 2 is another: count axes "
            "from the end.",
        ),
        "bmm": (
            products_by_bmm,
            "`bmm` takes exactly one batch axis. Here there may be none, or several: `@` takes any "
            "number.",
        ),
        "root-of-first-axis-of-key": (
            root_of_the_first_axis_of_the_key,
            "You scale by the length of the first axis of `key`, that is, the number of keys or of "
            "cases in the batch. Count axes from the end.",
        ),
        "all-pairs": (
            softmax_over_all_pairs,
            "All weights together sum to one. Each query should share out a sum of one among the "
            "keys.",
        ),
        "axis-of-the-sum-lost": (
            axis_of_the_exponentials_lost,
            "A sum along the last axis takes this axis away, and then broadcasting sets wrong axes "
            "beside each other. Keep it with length 1.",
        ),
        "not-normalised": (
            not_normalised,
            "Your weights are the exponentials themselves. Divided by their sum over the keys they "
            "would sum to one.",
        ),
        "hard": (
            best_key_only,
            "You take the value of the best key and nothing else. That is hard attention; asked "
            "for is the softmax.",
        ),
        "first-axes-transposed": (
            first_axes_transposed,
            "Right without a batch. With one, you exchange axes 0 and 1, the batch among them; the "
            "last two are to be exchanged.",
        ),
        "softmax-after-value": (
            softmax_last,
            "The softmax comes too late: it belongs on the scores, before they meet the values.",
        ),
        "softmax-missing": (
            softmax_missing,
            "The scores are used as weights as they are. They can be negative, and they do not sum "
            "to one.",
        ),
        "scale-after-softmax": (
            scale_after_softmax,
            "You scale the weights. Then they no longer sum to one, and the softmax has saturated "
            "already.",
        ),
        "weights-returned": (
            weights_without_values,
            "These are the weights (..., L, S). The last step is missing: the values they weigh.",
        ),
        "sigmoid-for-softmax": (
            sigmoid_weights,
            "These are gates. Dot-product attention is a weighted mean: its weights sum to one.",
        ),
        "keys-for-values": (
            keys_taken,
            "You take a mean of the keys. They say where to look; what is taken is the values.",
        ),
    },
    hints=(
        "Scores, weights, weighted mean: three lines, and the shapes (..., L, S), (..., L, S), "
        "(..., L, e).",
        "`@` multiplies the last two axes and leaves those of a batch alone. Which property of a "
        "tensor exchanges just these two?",
        "Divide by the root of the length of the last axis of `query`; softmax along the last axis "
        "of the scores; multiply by the values.",
    ),
    why=(
        "Counted from the end, the axes are the same with and without a batch: -1 is the width of "
        "a query, and then the keys in the matrix of scores."
    ),
)


# Several heads ------------------------------------------------------------------------------------


def multi_head(query, key, value, heads):
    def split(x):  # (N, L, d) -> (N, heads, L, d / heads)
        return x.unflatten(2, (heads, -1)).transpose(1, 2)

    query, key, value = split(query), split(key), split(value)
    scores = query @ key.mT / query.shape[-1] ** 0.5  # (N, heads, L, S)
    taken = scores.softmax(-1) @ value  # (N, heads, L, d / heads)
    return taken.transpose(1, 2).flatten(2)


def _split(x, heads):
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def _cut(x, heads):
    return x.reshape(len(x), heads, x.shape[1], -1)


def split_by_view(query, key, value, heads):
    taken = dot_product_attention(*(_cut(x, heads) for x in (query, key, value)))
    return taken.transpose(1, 2).flatten(2)


def merged_by_view(query, key, value, heads):
    taken = dot_product_attention(*(_split(x, heads) for x in (query, key, value)))
    return taken.reshape(query.shape)


def split_and_merged_by_view(query, key, value, heads):
    taken = dot_product_attention(*(_cut(x, heads) for x in (query, key, value)))
    return taken.reshape(query.shape)


def full_width_in_the_scale(query, key, value, heads):
    width = query.shape[-1]
    query, key, value = (_split(x, heads) for x in (query, key, value))
    taken = (query @ key.mT / width**0.5).softmax(-1) @ value
    return taken.transpose(1, 2).flatten(2)


def scale_left_out(query, key, value, heads):
    query, key, value = (_split(x, heads) for x in (query, key, value))
    return ((query @ key.mT).softmax(-1) @ value).transpose(1, 2).flatten(2)


def every_nth_channel(query, key, value, heads):
    query, key, value = (
        x.unflatten(2, (-1, heads)).permute(0, 3, 1, 2) for x in (query, key, value)
    )
    return dot_product_attention(query, key, value).permute(0, 2, 3, 1).flatten(2)


def every_nth_channel_head_after_head(query, key, value, heads):
    parts = [[x[..., i::heads] for x in (query, key, value)] for i in range(heads)]
    return torch.cat([dot_product_attention(*part) for part in parts], -1)


def values_not_cut(query, key, value, heads):
    parts = zip(query.chunk(heads, -1), key.chunk(heads, -1), strict=True)
    return torch.cat([dot_product_attention(q, k, value) for q, k in parts], -1)


def joined_along_the_tokens(query, key, value, heads):
    return torch.cat([*not_merged(query, key, value, heads).unbind(1)], 1)


def last_head_only(query, key, value, heads):
    return not_merged(query, key, value, heads)[:, -1]


def merged_interleaved(query, key, value, heads):
    taken = dot_product_attention(*(_split(x, heads) for x in (query, key, value)))
    return taken.permute(0, 2, 3, 1).flatten(2)


def one_head(query, key, value, heads):
    return dot_product_attention(query, key, value)


def heads_attend_to_heads(query, key, value, heads):
    query, key, value = (x.unflatten(2, (heads, -1)) for x in (query, key, value))
    return dot_product_attention(query, key, value).flatten(2)


def mean_of_heads(query, key, value, heads):
    return dot_product_attention(*(_split(x, heads) for x in (query, key, value))).mean(1)


def always_two_heads(query, key, value, heads):
    parts = zip(*(x.chunk(2, -1) for x in (query, key, value)), strict=False)
    return torch.cat([dot_product_attention(q, k, v) for q, k, v in parts], -1)


def heads_of_that_width(query, key, value, heads):
    parts = zip(*(x.split(heads, -1) for x in (query, key, value)), strict=False)
    return torch.cat([dot_product_attention(q, k, v) for q, k, v in parts], -1)


def tokens_cut(query, key, value, heads):
    parts = zip(*(x.chunk(heads, 1) for x in (query, key, value)), strict=False)
    return torch.cat([dot_product_attention(q, k, v) for q, k, v in parts], 1)


def tokens_cut_and_set_side_by_side(query, key, value, heads):
    parts = zip(*(x.chunk(heads, 1) for x in (query, key, value)), strict=False)
    return torch.cat([dot_product_attention(q, k, v) for q, k, v in parts], -1)


def mean_of_maps(query, key, value, heads):
    query, key = _split(query, heads), _split(key, heads)
    maps = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
    return maps.mean(1) @ value


def heads_in_reverse(query, key, value, heads):
    taken = dot_product_attention(*(_split(x, heads) for x in (query, key, value)))
    return taken.flip(1).transpose(1, 2).flatten(2)


def not_merged(query, key, value, heads):
    return dot_product_attention(*(_split(x, heads) for x in (query, key, value)))


def merged_without_the_batch(query, key, value, heads):
    taken = dot_product_attention(*(_split(x, heads) for x in (query, key, value)))
    return taken.transpose(1, 2).reshape(1, query.shape[1], -1)


def root_of_heads(query, key, value, heads):
    query, key, value = (_split(x, heads) for x in (query, key, value))
    return ((query @ key.mT / heads**0.5).softmax(-1) @ value).transpose(1, 2).flatten(2)


def as_many_keys_as_queries(query, key, value, heads):
    n, length, d = query.shape
    query, key, value = (
        x.reshape(n, length, heads, d // heads).transpose(1, 2) for x in (query, key, value)
    )
    return dot_product_attention(query, key, value).transpose(1, 2).reshape(n, length, d)


def softmax_over_the_queries_of_a_head(query, key, value, heads):
    query, key, value = (_split(x, heads) for x in (query, key, value))
    weights = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-2)
    return (weights @ value).transpose(1, 2).flatten(2)


def softmax_over_the_heads(query, key, value, heads):
    query, key, value = (_split(x, heads) for x in (query, key, value))
    weights = (query @ key.mT / query.shape[-1] ** 0.5).softmax(1)
    return (weights @ value).transpose(1, 2).flatten(2)


def keys_ask(query, key, value, heads):
    taken = dot_product_attention(*(_split(x, heads) for x in (key, query, value)))
    return taken.transpose(1, 2).flatten(2)


def exchanged_and_not_merged(query, key, value, heads):
    return not_merged(query, key, value, heads).transpose(1, 2)


def heads_added(query, key, value, heads):
    return not_merged(query, key, value, heads).sum(1)


def _heads(rng: torch.Generator) -> Inputs:
    sizes = ((2, 3, 3, 4, 2), (1, 5, 4, 6, 3), (3, 2, 6, 8, 4), (2, 4, 4, 6, 1), (2, 6, 6, 12, 3))
    return [
        (
            torch.randn(n, length, d, generator=rng),
            torch.randn(n, keys, d, generator=rng),
            torch.randn(n, keys, d, generator=rng),
            heads,
        )
        for n, length, keys, d, heads in sizes
    ]


MULTI_HEAD = Exercise(
    name="theory.multi_head",
    question=(
        "Write multi_head(query, key, value, heads), scaled dot-product attention with several "
        "heads, without learned layers. "
        "`query` is float32 (N, L, d), `key` and `value` (N, S, d), and the int `heads` divides d. "
        "The first head sees the first d / heads channels of all three, the next head the next "
        "ones, and so on; each is scaled dot-product attention by itself. Return (N, L, d): the "
        "results of the heads one after the other along the last axis, in the same order."
    ),
    reference=multi_head,
    make_inputs=_heads,
    wrong={
        "split-by-view": (
            split_by_view,
            "The heads are cut wrongly: view or reshape straight to (N, heads, L, ...) keeps the "
            "order in memory, so that a head gets all channels of some places instead of some "
            "channels of all places.",
        ),
        "merged-by-view": (
            merged_by_view,
            "The heads are cut rightly and put together wrongly: view or reshape straight to (N, "
            "L, d) runs through the places of the first head before it comes to the second.",
        ),
        "split-and-merged-by-view": (
            split_and_merged_by_view,
            "Cutting and putting together by view alone never exchanges two axes: each head gets "
            "all channels of some places, and places cannot see those of another head.",
        ),
        "full-width-in-the-scale": (
            full_width_in_the_scale,
            "The scale is that of the full width d. Each head's dot product is a sum over fewer "
            "channels.",
        ),
        "scale-forgotten": (scale_left_out, "The scores of the heads are not scaled."),
        "root-of-heads": (
            root_of_heads,
            "You scale by the number of heads. A dot product is a sum over the channels of a head.",
        ),
        "as-many-keys-as-queries": (
            as_many_keys_as_queries,
            "Right only for as many keys as queries: `key` and `value` have a length of their own.",
        ),
        "every-nth-channel": (
            every_nth_channel,
            "Your heads take every so many-th channel. Asked for are neighbouring channels.",
        ),
        "every-nth-channel-head-after-head": (
            every_nth_channel_head_after_head,
            "Your heads take every so many-th channel. Asked for are neighbouring channels.",
        ),
        "values-not-cut": (
            values_not_cut,
            "Each of your heads takes all channels of the values. Cut these as well.",
        ),
        "joined-along-tokens": (
            joined_along_the_tokens,
            "You set the results of the heads one after the other along the axis of the tokens. "
            "They belong side by side, along the last axis.",
        ),
        "last-head-only": (
            last_head_only,
            "Only the last head is left: keep the results of all of them.",
        ),
        "merged-interleaved": (
            merged_interleaved,
            "Put together, the channels of the heads alternate. They should stand head after head.",
        ),
        "heads-ignored": (
            one_head,
            "This is attention with a single head of full width, whatever `heads` says.",
        ),
        "heads-attend-to-heads": (
            heads_attend_to_heads,
            "At each place the heads attend to each other. The axis of the heads must move to the "
            "front, beside the batch, so that the last two axes are places and channels.",
        ),
        "mean-of-heads": (
            mean_of_heads,
            "You average the heads. They are to be set beside each other, so that the width is d.",
        ),
        "always-two-heads": (
            always_two_heads,
            "Right for two heads. With you there are always two, whatever `heads` says.",
        ),
        "heads-of-that-width": (
            heads_of_that_width,
            "You cut the channels into parts that are `heads` wide. `heads` is the number of "
            "parts: `chunk` takes a number of parts, `split` a width.",
        ),
        "tokens-cut": (
            tokens_cut,
            "You cut the tokens into parts, so that a query sees a part of the keys only. Heads "
            "cut the channels, the last axis; each head sees all tokens.",
        ),
        "tokens-cut-and-side-by-side": (
            tokens_cut_and_set_side_by_side,
            "You cut the tokens into parts, so that a query sees a part of the keys only. Heads "
            "cut the channels, the last axis; each head sees all tokens.",
        ),
        "mean-of-maps": (
            mean_of_maps,
            "You average the maps of the heads and weigh the full values with one map. Each head "
            "weighs its own channels of the values with a map of its own.",
        ),
        "heads-in-reverse": (
            heads_in_reverse,
            "The heads are right, but stand in the reverse order.",
        ),
        "not-merged": (
            not_merged,
            "The heads are right, but still apart: (N, heads, L, d / heads) instead of (N, L, d).",
        ),
        "exchanged-and-not-merged": (
            exchanged_and_not_merged,
            "The heads are right and in their place, but still apart: (N, L, heads, d / heads) "
            "instead of (N, L, d).",
        ),
        "heads-added": (
            heads_added,
            "You add the heads up. They are to be set beside each other, so that the width is d.",
        ),
        "softmax-over-queries": (
            softmax_over_the_queries_of_a_head,
            "In your heads the weights sum to one over the queries. Each query should share out "
            "its attention among the keys.",
        ),
        "softmax-over-heads": (
            softmax_over_the_heads,
            "Your softmax runs along the axis of the heads, so that they compete. In each head the "
            "weights sum to one over the keys.",
        ),
        "queries-and-keys-exchanged": (
            keys_ask,
            "Queries and keys are exchanged. Each row of the scores should belong to a query.",
        ),
        "right-only-for-batch-of-one": (
            merged_without_the_batch,
            "Right for a batch of one: putting the heads together swallows the batch axis.",
        ),
    },
    hints=(
        "Heads are a batch: once their axis stands beside N, attention is written as before.",
        "A view can cut the last axis in two, (N, L, heads, d / heads). To move an axis elsewhere "
        "you need a transpose.",
        "Cut the last axis, exchange axes 1 and 2, attend, exchange them back, flatten the last "
        "two.",
    ),
    why=(
        "A view never changes the order in memory; a transpose exchanges axes. So: cut the last "
        "axis by view, exchange, attend, exchange back, and join by view."
    ),
)


# Tokens with their places -----------------------------------------------------------------------


def with_places(x):
    n, _, h, w = x.shape
    rows = torch.linspace(-1, 1, h) if h > 1 else torch.zeros(1)
    columns = torch.linspace(-1, 1, w) if w > 1 else torch.zeros(1)
    places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))  # (2, H, W)
    return torch.cat([x, places.expand(n, -1, -1, -1)], 1).flatten(2).mT


def _from_minus_one_to_one(length):
    return 2 * torch.arange(length) / max(length - 1, 1) - min(length - 1, 1)


def _grid(rows, columns):  # (2, H, W)
    return torch.stack(torch.meshgrid(rows.float(), columns.float(), indexing="ij"))


def _beside(x, places):
    return torch.cat([x, places.expand(len(x), -1, -1, -1)], 1).flatten(2).mT


def _places(x):
    return _grid(*(_from_minus_one_to_one(length) for length in x.shape[2:]))


def columns_before_rows(x):
    return _beside(x, _places(x).flip(0))


def places_first(x):
    features = _beside(x, _places(x))
    return torch.cat([features[:, :, -2:], features[:, :, :-2]], 2)


def numbers_of_rows(x):
    return _beside(x, _grid(*(torch.arange(length) for length in x.shape[2:])))


def from_zero_to_one(x):
    return _beside(x, (_places(x) + 1) / 2)


def from_zero_to_one_with_length_one(x):
    steps = [torch.linspace(0, 1, length) for length in x.shape[2:]]
    return _beside(x, _grid(*steps))


def divided_by_the_length(x):
    return _beside(x, _grid(*(2 * torch.arange(length) / length - 1 for length in x.shape[2:])))


def divided_by_the_length_but_for_one(x):
    steps = [2 * torch.arange(n) / n - 1 if n > 1 else torch.zeros(1) for n in x.shape[2:]]
    return _beside(x, _grid(*steps))


def one_scale_for_both(x):
    longest = max(x.shape[2:])
    return _beside(x, _grid(*(2 * torch.arange(n) / (longest - 1) - 1 for n in x.shape[2:])))


def one_scale_but_for_one(x):
    longest = max(x.shape[2:])
    steps = [2 * torch.arange(n) / (longest - 1) - 1 for n in x.shape[2:]]
    return _beside(x, _grid(*(step if len(step) > 1 else torch.zeros(1) for step in steps)))


def from_plus_to_minus_one(x):
    return _beside(x, -_places(x))


def middles_of_pixels(x):
    return _beside(x, _grid(*((2 * torch.arange(n) + 1) / n - 1 for n in x.shape[2:])))


def length_one_forgotten(x):
    return _beside(x, _grid(*(torch.linspace(-1, 1, length) for length in x.shape[2:])))


def divided_by_zero(x):
    steps = [2 * torch.arange(length) / (length - 1) - 1 for length in x.shape[2:]]
    return _beside(x, _grid(*steps))


def batch_forgotten(x):
    return torch.cat([x, _places(x)[None]], 1).flatten(2).mT


def tokens_by_reshape(x):
    n, c, h, w = x.shape
    places = _places(x).flatten(1).mT.expand(n, -1, -1)
    return torch.cat([x.reshape(n, h * w, c), places], 2)


def columns_run_slowly(x):
    return _beside(x.mT, _places(x).mT)


def places_run_the_other_way(x):
    rows, columns = (_from_minus_one_to_one(length) for length in x.shape[2:])
    places = _grid(columns, rows).flip(0).flatten(1)  # all rows of the first column first
    return torch.cat([x.flatten(2), places.expand(len(x), -1, -1)], 1).mT


def number_of_the_token(x):
    n, _, h, w = x.shape
    steps = _from_minus_one_to_one(h * w).expand(n, 1, -1)
    return torch.cat([x.flatten(2), steps], 1).mT


def still_an_image(x):
    return _beside(x, _places(x)).mT.unflatten(2, x.shape[2:])


def channels_first(x):
    return _beside(x, _places(x)).mT


def places_added(x):
    return (x + _places(x).sum(0)).flatten(2).mT


def all_by_reshape(x):
    n, c, h, w = x.shape
    return torch.cat([x, _places(x).expand(n, -1, -1, -1)], 1).reshape(n, h * w, c + 2)


def meshgrid_xy(x):
    steps = [_from_minus_one_to_one(length).float() for length in x.shape[2:]]
    return _beside(x, torch.stack(torch.meshgrid(*steps, indexing="xy")))


def _images_with_lines(rng: torch.Generator) -> Inputs:
    sizes = ((1, 2, 4, 4), (2, 3, 5, 3), (3, 1, 2, 6), (2, 2, 1, 5), (2, 4, 4, 1), (2, 2, 3, 3))
    return [(torch.randn(size, generator=rng),) for size in sizes]


WITH_PLACES = Exercise(
    name="theory.with_places",
    question=(
        "Write with_places(x), which makes tokens of an image and sets beside the features of each "
        "token the place it comes from. "
        "`x` is float32 (N, C, H, W), with any H and W. Return (N, H W, C + 2), the pixels in "
        " their usual order, row after row. The first C numbers of a token are the channels of "
        "its pixel. Then come its row and its column, in this order, each scaled evenly: -1 for "
        "the first row, +1 for the last one, and the same for columns. If there is one row only, "
        "its number is 0; the same holds for a single column."
    ),
    reference=with_places,
    make_inputs=_images_with_lines,
    wrong={
        "columns-before-rows": (
            columns_before_rows,
            "The column stands before the row. Asked for is the row first.",
        ),
        "places-first": (places_first, "The places stand before the channels."),
        "not-scaled": (
            numbers_of_rows,
            "You set the numbers of rows and columns beside the features as they are. In a large "
            "image they would outweigh every feature in the dot product: scale them.",
        ),
        "from-zero-to-one": (
            from_zero_to_one,
            "Your places run from 0 to 1. They are to run from -1 to +1.",
        ),
        "from-zero-to-one-linspace": (
            from_zero_to_one_with_length_one,
            "Your places run from 0 to 1. They are to run from -1 to +1.",
        ),
        "divided-by-length": (
            divided_by_the_length,
            "Your last row does not reach +1: n rows have n - 1 steps between them.",
        ),
        "divided-by-length-but-for-one": (
            divided_by_the_length_but_for_one,
            "Your last row does not reach +1: n rows have n - 1 steps between them.",
        ),
        "one-scale-for-both": (
            one_scale_for_both,
            "You scale rows and columns by the longer side. Each axis is to run from -1 to +1 by "
            "itself, whatever the length of the other one.",
        ),
        "one-scale-but-for-one": (
            one_scale_but_for_one,
            "You scale rows and columns by the longer side. Each axis is to run from -1 to +1 by "
            "itself, whatever the length of the other one.",
        ),
        "signs-exchanged": (
            from_plus_to_minus_one,
            "Your places run from +1 to -1. The first row and the first column are to be -1.",
        ),
        "middles-of-pixels": (
            middles_of_pixels,
            "You take the middles of the pixels in an image that reaches from -1 to +1. Asked for "
            "are -1 and +1 at the first and last row themselves.",
        ),
        "length-one-forgotten": (
            length_one_forgotten,
            "Nearly: with a single row or column the place is to be 0, in the middle. linspace "
            "gives its start.",
        ),
        "divided-by-zero": (
            divided_by_zero,
            "Nearly: a single row or column has no step, and 0 by 0 is NaN.",
        ),
        "batch-forgotten": (
            batch_forgotten,
            "Right for a batch of one. The places are the same for all images, but `cat` does not "
            "broadcast: they must be repeated for each image.",
        ),
        "tokens-by-reshape": (
            tokens_by_reshape,
            "The places are right, but the first numbers of a token are not the channels of one "
            "pixel. reshape keeps the order in memory, where the channels lie one image apart.",
        ),
        "all-by-reshape": (
            all_by_reshape,
            "The places stand in the right channels, but reshape does not make tokens of them: it "
            "keeps the order in memory, where the channels lie one image apart.",
        ),
        "meshgrid-xy": (
            meshgrid_xy,
            "Your two images of places have the shape (W, H) instead of (H, W). If they come from "
            "`meshgrid`: it has an argument for this.",
        ),
        "columns-run-slowly": (
            columns_run_slowly,
            "Each token is right, but they stand column after column. Asked for is row after row.",
        ),
        "places-of-another-order": (
            places_run_the_other_way,
            "The pixels run row after row and the places column after column: a pixel gets the "
            "place of another one. `meshgrid` has an argument for this.",
        ),
        "number-of-token": (
            number_of_the_token,
            "You count the tokens. From one number it cannot be seen that a pixel lies below "
            "another one: each token needs its row and its column.",
        ),
        "still-an-image": (
            still_an_image,
            "The channels are right, but these are no tokens yet: (N, H W, C + 2) is asked for.",
        ),
        "channels-first": (
            channels_first,
            "The last two axes are exchanged: a token is a row, so that its channels come last.",
        ),
        "added": (
            places_added,
            "You add the places to the features. Here they are to stand beside them.",
        ),
    },
    hints=(
        "Make two more channels first, an image of row numbers and one of column numbers; tokens "
        "come last.",
        "`torch.linspace` and `torch.meshgrid` make the two images. Which length needs care?",
        "Stack the two images, expand them to the batch, cat them to x along the channels, then "
        "flatten the last two axes and exchange.",
    ),
    why=(
        "As channels of the image the places go through the same steps as the features, so that "
        "both stay with their pixel."
    ),
)


# Find the bug: attention between pixels ---------------------------------------------------------


def pixel_attention(x):
    pixels = x.flatten(2).mT  # (N, H W, C)
    scores = pixels @ pixels.mT / x.shape[1] ** 0.5
    taken = scores.softmax(dim=2) @ pixels
    return taken.mT.reshape(x.shape)


def unmended(x):
    n, c, h, w = x.shape
    pixels = x.reshape(n, h * w, c)
    scores = pixels @ pixels.mT / c**0.5
    taken = scores.softmax(dim=1) @ pixels
    return taken.mT.reshape(n, c, h, h)


def pixels_cut_by_reshape(x):
    n, c, h, w = x.shape
    pixels = x.reshape(n, h * w, c)
    taken = (pixels @ pixels.mT / c**0.5).softmax(dim=2) @ pixels
    return taken.mT.reshape(n, c, h, w)


def pixels_cut_and_joined_by_reshape(x):
    n, c, h, w = x.shape
    pixels = x.reshape(n, h * w, c)
    taken = (pixels @ pixels.mT / c**0.5).softmax(dim=2) @ pixels
    return taken.reshape(n, c, h, w)


def softmax_axis_left(x):
    n, c, h, w = x.shape
    pixels = x.flatten(2).mT
    taken = (pixels @ pixels.mT / c**0.5).softmax(dim=1) @ pixels
    return taken.mT.reshape(n, c, h, w)


def square_left(x):
    n, c, h, _ = x.shape
    pixels = x.flatten(2).mT
    taken = (pixels @ pixels.mT / c**0.5).softmax(dim=2) @ pixels
    return taken.mT.reshape(n, c, h, h)


def only_the_shape_mended(x):
    n, c, h, w = x.shape
    pixels = x.reshape(n, h * w, c)
    taken = (pixels @ pixels.mT / c**0.5).softmax(dim=1) @ pixels
    return taken.mT.reshape(n, c, h, w)


def only_the_softmax_mended(x):
    n, c, h, w = x.shape
    pixels = x.reshape(n, h * w, c)
    taken = (pixels @ pixels.mT / c**0.5).softmax(dim=2) @ pixels
    return taken.mT.reshape(n, c, h, h)


def only_the_pixels_mended(x):
    n, c, h, _ = x.shape
    pixels = x.flatten(2).mT
    taken = (pixels @ pixels.mT / c**0.5).softmax(dim=1) @ pixels
    return taken.mT.reshape(n, c, h, h)


def joined_without_exchange(x):
    pixels = x.flatten(2).mT
    taken = (pixels @ pixels.mT / x.shape[1] ** 0.5).softmax(dim=2) @ pixels
    return taken.reshape(x.shape)


def scale_of_the_number_of_pixels(x):
    pixels = x.flatten(2).mT
    taken = (pixels @ pixels.mT / pixels.shape[1] ** 0.5).softmax(dim=2) @ pixels
    return taken.mT.reshape(x.shape)


def channels_attend(x):
    channels = x.flatten(2)
    scores = channels @ channels.mT / x.shape[1] ** 0.5
    return (scores.softmax(dim=2) @ channels).reshape(x.shape)


def rows_and_columns_exchanged(x):
    pixels = x.mT.flatten(2).mT
    taken = (pixels @ pixels.mT / x.shape[1] ** 0.5).softmax(dim=2) @ pixels
    return taken.mT.reshape(x.shape)


def width_before_height(x):
    n, c, h, w = x.shape
    pixels = x.flatten(2).mT
    taken = (pixels @ pixels.mT / c**0.5).softmax(dim=2) @ pixels
    return taken.reshape(n, h, w, c).permute(0, 3, 2, 1)


def softmax_over_the_batch(x):
    pixels = x.flatten(2).mT
    taken = (pixels @ pixels.mT / x.shape[1] ** 0.5).softmax(dim=0) @ pixels
    return taken.mT.reshape(x.shape)


def images_attend_to_each_other(x):
    pixels = x.movedim(1, -1).flatten(0, -2)  # (N H W, C)
    taken = (pixels @ pixels.mT / x.shape[1] ** 0.5).softmax(dim=-1) @ pixels
    return taken.view(x.movedim(1, -1).shape).movedim(-1, 1)


def scale_lost(x):
    pixels = x.flatten(2).mT
    return ((pixels @ pixels.mT).softmax(dim=2) @ pixels).mT.reshape(x.shape)


def image_added(x):
    return x + pixel_attention(x)


def rows_attend(x):
    pixels = x.permute(0, 2, 3, 1)  # (N, H, W, C)
    taken = (pixels @ pixels.mT / x.shape[1] ** 0.5).softmax(dim=-1) @ pixels
    return taken.permute(0, 3, 1, 2)


def _images(rng: torch.Generator) -> Inputs:
    sizes = ((1, 2, 4, 4), (2, 3, 5, 5), (1, 3, 2, 6), (3, 2, 4, 3), (2, 4, 3, 3))
    return [(torch.randn(size, generator=rng),) for size in sizes]


PIXEL_ATTENTION = Exercise(
    name="theory.pixel_attention",
    question=(
        "Mend pixel_attention(x), in which each pixel of an image attends to all pixels of the "
        "same image. "
        "`x` is float32 (N, C, H, W). Query, key and value of a pixel are its C channels as they "
        "are; the attention is scaled dot-product attention over the H W pixels. Return (N, C, H, "
        "W), each pixel where it was. H and W may differ, and N may be any number."
    ),
    reference=pixel_attention,
    make_inputs=_images,
    wrong={
        "unmended": (
            unmended,
            "This behaves like the code you started from. There are three bugs, all in how axes "
            "are used. Try it on an image that is not square, and with N = 2.",
        ),
        "pixels-cut-by-reshape": (
            pixels_cut_by_reshape,
            "A row of `pixels` does not hold the channels of one pixel. reshape keeps the order in "
            "memory, and there the channels lie one whole image apart.",
        ),
        "cut-and-joined-by-reshape": (
            pixels_cut_and_joined_by_reshape,
            "The result has the right shape and order, but a row of `pixels` still holds "
            "neighbouring values of one channel and not the channels of one pixel.",
        ),
        "softmax-over-queries": (
            softmax_axis_left,
            "The weights sum to one over the queries. Each pixel's result is then no weighted mean "
            "of pixels.",
        ),
        "right-only-for-square": (
            square_left,
            "Right for square images only: look at the last line.",
        ),
        "only-the-shape-mended": (
            only_the_shape_mended,
            "Images need not be square any more. Two bugs are left: what stands in a row of "
            "`pixels`, and which weights sum to one.",
        ),
        "only-the-softmax-mended": (
            only_the_softmax_mended,
            "The weights sum to one over the keys now. Two bugs are left: what stands in a row of "
            "`pixels`, and images that are not square.",
        ),
        "only-the-pixels-mended": (
            only_the_pixels_mended,
            "A row of `pixels` is a pixel now. Two bugs are left: which weights sum to one, and "
            "images that are not square.",
        ),
        "joined-without-exchange": (
            joined_without_exchange,
            "The attention is right, but on the way back pixels and channels are not exchanged, so "
            "that the channels of a pixel end up beside each other in one image.",
        ),
        "root-of-number-of-pixels": (
            scale_of_the_number_of_pixels,
            "You scale by the number of pixels. The sum in a dot product runs over the channels.",
        ),
        "rows-and-columns-exchanged": (
            rows_and_columns_exchanged,
            "The attention is right, but the pixels come back in another order: rows and columns "
            "are exchanged on the way out or on the way back.",
        ),
        "width-before-height": (
            width_before_height,
            "The attention is right, but on the way back the axes of rows and columns are "
            "exchanged: (N, C, W, H) comes out.",
        ),
        "softmax-over-batch": (
            softmax_over_the_batch,
            "Your softmax runs along the batch: the images share out a sum of one among them.",
        ),
        "images-attend-to-each-other": (
            images_attend_to_each_other,
            "Right for a batch of one. With more, your pixels attend to those of all images of the "
            "batch. The axis of the images must stay apart from that of the pixels.",
        ),
        "scale-lost": (
            scale_lost,
            "The scale was right in the code you started from. Now it is missing.",
        ),
        "input-added": (
            image_added,
            "You add the image to the result. That is what the course's block does; here the "
            "attention alone is asked for.",
        ),
        "rows-attend": (
            rows_attend,
            "Your pixels attend to those of their own row only. H and W must become one axis "
            "before the product.",
        ),
        "channels-attend": (
            channels_attend,
            "Here the channels attend to each other. The map should be (H W, H W), not (C, C).",
        ),
    },
    hints=(
        "Ask three questions: what stands in a row of `pixels`, which weights sum to one, and what "
        "becomes of an image that is not square?",
        "Call it with x = torch.arange(12.0).reshape(1, 2, 2, 3) and print `pixels`: what are the "
        "two channels of the first pixel?",
        "Mean over all pixels is a special case of attention. A constant image must come out as it "
        "went in: does each result weigh the pixels with a sum of one?",
        "Flatten the last two axes and exchange, for `pixels`; softmax along the axis of the keys; "
        "the shape of `x` in the end.",
    ),
    why=(
        "Flattening keeps a channel together, the transpose makes a row of a pixel, and the same "
        "two steps backwards restore the image. The softmax runs along the keys, the last axis."
    ),
)


# Predict, then run -------------------------------------------------------------------------------


def weights_megabytes():
    pixels = 56 * 56
    weights = 8 * pixels**2  # each head has a weight for every pair of pixels
    return weights * 4 / 1e6


WEIGHTS_MEGABYTES = Exercise(
    name="theory.weights_megabytes",
    question=(
        "How many megabytes do the weights of self-attention take for one image of 56 by 56 "
        "pixels, with 8 heads, in float32? "
        "Each pixel of the feature map attends to all of them. A float32 has 4 bytes, a megabyte "
        "10^6. Answer with a number, right to one per cent, before you run anything."
    ),
    reference=weights_megabytes,
    tolerance=0.01,
    wrong={
        "heads-forgotten": (
            lambda: 56**4 * 4 / 1e6,
            "This is one head. Each head has weights of its own.",
        ),
        "numbers-not-bytes": (
            lambda: 8 * 56**4 / 1e6,
            "This is the number of weights, in millions. Each takes 4 bytes.",
        ),
        "pairs-alone": (
            lambda: 56**4 / 1e6,
            "This is the number of pairs, in millions. How often is each stored, and in how many "
            "bytes?",
        ),
        "one-weight-per-pixel": (
            lambda: 8 * 56**2 * 4 / 1e6,
            "This would be a gate per head: one weight for each pixel. Attention has one for each "
            "pair of pixels.",
        ),
        "features-not-pairs": (
            lambda: 8 * 32 * 56**2 * 4 / 1e6,
            "This grows with the number of pixels, as the queries do: so much takes a feature map, "
            "for instance with 32 channels for each head. Attention has a weight for each pair of "
            "pixels.",
        ),
        "half-precision": (
            lambda: 8 * 56**4 * 2 / 1e6,
            "Half of it. If you took 2 bytes per weight: a float32 has 4. If you counted each pair "
            "once: a pixel both asks and answers, so that i to j and j to i have a weight each.",
        ),
        "heads-share-the-map": (
            lambda: 56**4 * 4 / 8 / 1e6,
            "The heads share the channels among them, not the pairs of pixels: every head has a "
            "whole map.",
        ),
        "twice-too-much": (
            lambda: 8 * 56**4 * 8 / 1e6,
            "Twice too much. A float32 has 4 bytes, and each pair of a pixel that asks and one "
            "that answers has one weight.",
        ),
        "mebibytes": (
            lambda: 8 * 56**4 * 4 / 2**20,
            "Near. If you counted in units of 2^20 bytes: asked for are units of 10^6. If you "
            "rounded or guessed: one per cent is finer than that, so multiply it out.",
        ),
        "gigabytes": (
            lambda: 8 * 56**4 * 4 / 1e9,
            "These are gigabytes. There are a thousand megabytes in one.",
        ),
        "size-of-the-input-image": (
            lambda: 8 * 224**4 * 4 / 1e6,
            "224 is the side of the network's input. The map that attends has a side of 56.",
        ),
        "eight-times-too-much": (
            lambda: 8 * 8 * 56**4 * 4 / 1e6,
            "Eight times too much. These are megabits, if you took 32 for a float32; or the heads "
            "are counted twice. A head has one map, and no head attends to another one.",
        ),
        "bytes": (lambda: 8 * 56**4 * 4.0, "These are bytes. A megabyte has 10^6 of them."),
        "kilobytes": (
            lambda: 8 * 56**4 * 4 / 1e3,
            "These are kilobytes. A megabyte has a thousand of them.",
        ),
        "one-side-only": (
            lambda: 8 * 56 * 56**2 * 4 / 1e6,
            "The number of pixels is squared, not only multiplied by the length of a side.",
        ),
    },
    hints=(
        "How many pixels are there, and how many pairs of a pixel that asks and one that answers?",
        "The pairs are the square of 3136. How many times over are they stored?",
        "Multiply 3136 by itself, by the number of heads and by the bytes of a number.",
    ),
    why=(
        "Pixels squared, times heads, times bytes. The feature map itself, with 64 channels, has "
        "0.8 MB. A training step keeps the weights for the gradient, for each image of the batch."
    ),
)


def gradient_ratio():
    import math

    def slope(score):
        weight = 1 / (1 + math.exp(-score))
        return weight * (1 - weight)

    return slope(0) / slope(-10)


GRADIENT_RATIO = Exercise(
    name="theory.gradient_ratio",
    question=(
        "By which factor is the slope of a sigmoid gate at the score 0 larger than at the score "
        "-10? "
        "The slope is the derivative of the gate's weight with respect to its score: every "
        "gradient that is to open the gate is multiplied by it. Answer with a number, right to two "
        "per cent; a calculator is allowed, autograd is not."
    ),
    reference=gradient_ratio,
    tolerance=0.02,
    wrong={
        "inverted": (
            lambda: 1.816e-4,
            "Your number is 0 or nearly so. Is it the slope at -10 alone? Or is the fraction "
            "upside down? The slope is largest at 0, so that the factor is above one.",
        ),
        "weights-not-slopes": (
            lambda: 11013.7,
            "You compared the weights themselves, one half and nearly nothing. Asked for are the "
            "slopes.",
        ),
        "slope-at-zero-taken-as-one": (
            lambda: 22026.5,
            "Nearly: at -10 the slope is about exp(-10). But what is it at 0? Not one.",
        ),
        "weight-squared": (
            lambda: 0.25 / 4.5396e-5**2,
            "At 0 the two factors of the slope are equal, at -10 they are not: you squared the "
            "weight there.",
        ),
        "scores-compared": (
            lambda: 10.0,
            "The slope does not fall in proportion to the score. It falls with an exponential.",
        ),
        "slope-at-zero": (
            lambda: 0.25,
            "This is the slope at 0 by itself; the difference of the two slopes is nearly the "
            "same. Asked for is their ratio.",
        ),
        "no-difference": (
            lambda: 1.0,
            "The two slopes differ: far from 0 the curve of the sigmoid is flat.",
        ),
        "logarithm": (
            lambda: 8.614,
            "This is the logarithm of the factor. Asked for is the factor itself.",
        ),
        "base-ten": (
            lambda: 2.5e9,
            "The sigmoid is built on e, not on 10.",
        ),
    },
    hints=(
        "Write the derivative of the sigmoid with the weight itself: it is a product of two "
        "factors.",
        "Weight times (1 - weight). At -10 the second factor is as good as 1, and the weight is "
        "about exp(-10).",
        "Work the two slopes out, the larger one from a weight of one half; then divide.",
    ),
    why=(
        "The slope is weight times (1 - weight): one quarter at 0, and about exp(-10) at -10. A "
        "gate that starts there hardly learns for a long time."
    ),
)


# Stuck, or to be folded into the next layer? ------------------------------------------------------


def gate_state(weights):
    slope = weights * (1 - weights)
    if (slope < 0.001).all():
        return "stuck"
    each = weights.transpose(0, 1).flatten(1)  # a row per channel: all images and places
    spread = each.amax(1) - each.amin(1)
    return "folds" if (spread < 0.001).all() else "works"


def _spread(weights, axes):
    return weights.amax(axes) - weights.amin(axes)


def _state(stuck, folds):
    return "stuck" if bool(stuck) else "folds" if bool(folds) else "works"


def _no_slope(weights):
    return (weights * (1 - weights) < 0.001).all()


def _fixed(weights):
    return (_spread(weights, (0, 2, 3)) < 0.001).all()


def same_for_all_images(weights):
    return _state(_no_slope(weights), (_spread(weights, 0) < 0.001).all())


def same_for_all_places(weights):
    return _state(_no_slope(weights), (_spread(weights, (2, 3)) < 0.001).all())


def same_for_all_channels(weights):
    return _state(_no_slope(weights), weights.amax() - weights.amin() < 0.001)


def one_channel_is_enough(weights):
    return _state(_no_slope(weights), (_spread(weights, (0, 2, 3)) < 0.001).any())


def closed_only(weights):
    return _state((weights < 0.001).all(), _fixed(weights))


def open_only(weights):
    return _state((weights > 0.999).all(), _fixed(weights))


def one_stuck_weight_is_enough(weights):
    return _state((weights * (1 - weights) < 0.001).any(), _fixed(weights))


def slope_of_the_mean_weight(weights):
    mean = weights.mean()
    return _state(mean * (1 - mean) < 0.001, _fixed(weights))


def all_open_or_all_closed(weights):
    return _state((weights < 0.001).all() or (weights > 0.999).all(), _fixed(weights))


def folds_asked_first(weights):
    if _fixed(weights):
        return "folds"
    return "stuck" if _no_slope(weights) else "works"


def mean_of_the_slopes(weights):
    return _state((weights * (1 - weights)).mean() < 0.001, _fixed(weights))


def nearly_closed_is_stuck(weights):
    return _state(((weights < 0.01) | (weights > 0.99)).all(), _fixed(weights))


def never_stuck(weights):
    return _state(_no_slope(torch.sigmoid(weights)), _fixed(weights))


def never_folds(weights):
    return _state(_no_slope(weights), False)


def never_works(weights):
    return _state(_no_slope(weights), True)


def always_works(weights):
    return "works"


def one_stuck_channel_is_enough(weights):
    flat = (weights * (1 - weights) < 0.001).transpose(0, 1).flatten(1)
    return _state(flat.all(1).any(), _fixed(weights))


def one_stuck_image_is_enough(weights):
    flat = (weights * (1 - weights) < 0.001).flatten(1)
    return _state(flat.all(1).any(), _fixed(weights))


def neighbours_compared(weights):
    steps = [weights.diff(dim=axis).abs() for axis in (0, 2, 3)]
    return _state(_no_slope(weights), all((step < 0.001).all() for step in steps))


def compared_with_the_first(weights):
    away = (weights - weights[:1, :, :1, :1]).abs()
    return _state(_no_slope(weights), (away < 0.001).all())


def compared_with_the_mean(weights):
    away = (weights - weights.mean((0, 2, 3), keepdim=True)).abs()
    return _state(_no_slope(weights), (away < 0.001).all())


def images_and_places_apart(weights):
    spreads = _spread(weights, 0), _spread(weights, (2, 3))
    return _state(_no_slope(weights), all((spread < 0.001).all() for spread in spreads))


def exactly_the_same(weights):
    return _state(_no_slope(weights), (_spread(weights, (0, 2, 3)) == 0).all())


def rounded_to_three_digits(weights):
    return _state(_no_slope(weights), (_spread(weights.round(decimals=3), (0, 2, 3)) == 0).all())


def mean_per_image(weights):
    return _state(_no_slope(weights), (_spread(weights.mean((2, 3)), 0) < 0.001).all())


def apart_on_average(weights):
    return _state(_no_slope(weights), (weights.std((0, 2, 3)) < 0.001).all())


def variance_for_spread(weights):
    return _state(_no_slope(weights), (weights.var((0, 2, 3)) < 0.001).all())


def the_other_way_round(weights):
    found = gate_state(weights)
    return {"folds": "works", "works": "folds"}.get(found, found)


def _recorded_gates(rng: torch.Generator) -> Inputs:
    def draw(*size):
        return 0.2 + 0.6 * torch.rand(size, generator=rng)

    ends = (torch.rand(2, 3, 4, 4, generator=rng) > 0.5).float()
    ends[0, :, 0, 0], ends[0, :, 0, 1], ends[1, :, 0, 0] = 0, 1, 1
    one_fixed = draw(3, 2, 1, 1).repeat(1, 1, 3, 4)
    one_fixed[:, 0] = 0.5
    some_stuck = draw(2, 2, 4, 3)
    some_stuck[:, :, :2] = 0
    one_place = torch.zeros(2, 2, 20, 20)
    one_place[0, 0, 3, 4] = 0.5
    one_apart = draw(1, 2, 1, 1).repeat(2, 1, 40, 40)
    one_apart[1, 0, 7, 9] += 0.03  # the standard deviation over the channel's 3200 stays below .001
    one_closed = draw(3, 2, 4, 4)
    one_closed[:, 1] = 0
    one_dark = draw(3, 2, 4, 3)
    one_dark[2] = 0
    middle = torch.full((2, 2, 3, 3), 0.5)
    middle[0, 0, 1, 1], middle[0, 0, 2, 2] = 0.5 - 0.0009, 0.5 + 0.0009
    images, rows = torch.arange(8.0).view(8, 1, 1, 1), torch.arange(5.0).view(5, 1)
    halves = draw(1, 2, 4, 6).repeat(4, 1, 1, 1)
    halves[::2] = halves[::2].flip(3)  # the same mean in each image, at other places
    cases = (
        draw(1, 3, 1, 1).repeat(4, 1, 5, 4),  # a channel gate, the same for all images
        draw(1, 1, 4, 5).repeat(3, 2, 1, 1),  # a spatial gate, the same for all images
        draw(4, 3, 1, 1).repeat(1, 1, 2, 3),  # a channel gate of each image's own
        draw(3, 1, 4, 4).repeat(1, 2, 1, 1),  # a spatial gate of each image's own
        0.0002 * draw(3, 2, 3, 5),  # closed
        1 - 0.0002 * draw(2, 3, 6, 4),  # open
        0.0001 + 0.9998 * ends,  # some closed and the others open, and no way back
        torch.full((2, 2, 3, 3), 0.5),  # half open everywhere
        one_fixed,
        some_stuck,
        one_place,
        one_apart,
        halves,
        draw(1, 2, 1, 1).repeat(3, 1, 4, 4) + 2e-4 * torch.rand(3, 2, 4, 4, generator=rng),
        0.002 + 0.005 * draw(2, 2, 4, 5),  # nearly closed, and yet with a slope above 0.001
        one_closed,
        one_dark,
        0.4 + 0.0009 * (images + rows).expand(8, 2, 5, 3),  # a slow drift: neighbours are near
        middle,  # each near the middle one, the outer two apart
        0.6 + 0.0009 * (images[:2] + rows[:2]).expand(2, 2, 2, 3),  # images and places add up
        0.5 + torch.tensor([[1e-4, 3e-4]]).expand(2, 3, 4, 2),  # not equal, but when rounded
        0.5005 + torch.tensor([[-1e-5, 1e-5]]).expand(3, 2, 2, 2),  # near, but apart when rounded
    )
    return [(case,) for case in cases]


GATE_STATE = Exercise(
    name="theory.gate_state",
    question=(
        "Write gate_state(weights), which says of a gate before global pooling and a linear layer "
        "whether it is stuck, can be folded into that layer, or works. "
        "`weights` is float32 (N, C, H, W): the weights, between 0 and 1, that a trained gate gave "
        "to N images, N at least 2; maps with an axis of length 1 have been expanded. Return a "
        "str. 'stuck': the slope of the sigmoid is below 0.001 at every single weight. Otherwise "
        "'folds': the linear layer can do the gate's work by scaling its columns, one factor for "
        "each channel; count the weights of a channel as the same if no two of them, at whatever "
        "image and place, differ by 0.001 or more. Otherwise 'works'."
    ),
    reference=gate_state,
    make_inputs=_recorded_gates,
    wrong={
        "same-for-all-images": (
            same_for_all_images,
            "You ask whether the weights are the same for all images. That is not enough: a "
            "spatial gate may be so, too, and differ from place to place. Pooling loses the "
            "places, and no layer behind it can weigh them.",
        ),
        "same-for-all-places": (
            same_for_all_places,
            "You ask whether the weights are the same at all places. Every channel gate is so. If "
            "they differ from image to image, no fixed factor can do its work.",
        ),
        "same-for-all-channels": (
            same_for_all_channels,
            "You want the channels to have the same weight. They may differ: each has a column of "
            "its own in the linear layer.",
        ),
        "never-folds": (never_folds, "You never answer 'folds'."),
        "never-works": (never_works, "You never answer 'works'."),
        "always-works": (always_works, "You always answer 'works'."),
        "one-stuck-channel-is-enough": (
            one_stuck_channel_is_enough,
            "One closed channel is not enough: the gate is stuck if no weight of any channel has a "
            "slope.",
        ),
        "one-stuck-image-is-enough": (
            one_stuck_image_is_enough,
            "One image with a closed gate is not enough: the gate is stuck if no weight in any "
            "image has a slope.",
        ),
        "neighbours-compared": (
            neighbours_compared,
            "You compare each weight with the next one. Small steps add up: the first and the last "
            "may be far apart.",
        ),
        "compared-with-first": (
            compared_with_the_first,
            "You compare all weights of a channel with one of them. Two that are near it, one "
            "above and one below, can differ from each other by more than 0.001.",
        ),
        "compared-with-mean": (
            compared_with_the_mean,
            "With you two weights may be 0.0018 apart, if both are near a third number such as "
            "their mean, one above and one below. No two of a channel may differ by 0.001 or more.",
        ),
        "images-and-places-apart": (
            images_and_places_apart,
            "You compare images at one place, and places in one image. Both differences can be "
            "small, and add up between two images at two places.",
        ),
        "exactly-the-same": (
            exactly_the_same,
            "You want the weights of a channel to be exactly the same. Trained ones hardly ever "
            "are: 0.5001 and 0.5003 count as the same, as they differ by less than 0.001.",
        ),
        "rounded": (
            rounded_to_three_digits,
            "You round the weights and compare then. 0.50049 and 0.50051 come out different, "
            "though they differ by less than 0.001: compare differences.",
        ),
        "one-channel-is-enough": (
            one_channel_is_enough,
            "One fixed channel is not enough: the gate can be folded if all channels are fixed.",
        ),
        "closed-only": (
            closed_only,
            "You look for closed gates only. Where a gate is wide open its curve is as flat.",
        ),
        "open-only": (
            open_only,
            "You look for open gates only. Where a gate is closed its curve is as flat.",
        ),
        "all-open-or-all-closed": (
            all_open_or_all_closed,
            "A gate is stuck, too, if some of its weights are near 0 and all others near 1. Work "
            "out the slope of each weight.",
        ),
        "one-stuck-weight-is-enough": (
            one_stuck_weight_is_enough,
            "A single flat place is not enough: good gates close at some places. The gate is stuck "
            "if none of its weights has a slope.",
        ),
        "slope-of-mean-weight": (
            slope_of_the_mean_weight,
            "You work out the slope of the mean weight. Weights near 0 and near 1 have a mean in "
            "the middle, and yet none of them has a slope.",
        ),
        "mean-of-slopes": (
            mean_of_the_slopes,
            "You take the mean of the slopes. In a gate that is closed almost everywhere it is "
            "tiny, though the few open places learn. No single weight may have a slope.",
        ),
        "nearly-closed-is-stuck": (
            nearly_closed_is_stuck,
            "You call a gate stuck whose weights are merely near 0 or 1, at 0.005 for instance. "
            "Work the slope of each weight out and compare that with 0.001.",
        ),
        "never-stuck": (
            never_stuck,
            "With you no gate is ever stuck. If the first question is there: do you take a sigmoid "
            "of the weights? They are weights already, and the slope follows from them alone.",
        ),
        "folds-asked-first": (
            folds_asked_first,
            "A closed gate is also the same for all images. The question wants 'stuck' asked "
            "first, as such a gate may have stopped learning by accident.",
        ),
        "mean-per-image": (
            mean_per_image,
            "You compare the mean weights of the images. Maps with the same mean can differ at "
            "every place.",
        ),
        "apart-on-average": (
            apart_on_average,
            "You ask how far the weights of a channel are apart on average, as a standard "
            "deviation does. One weight among thousands that stands out does not show in it. Any "
            "two weights of the channel must differ by less than 0.001.",
        ),
        "variance-for-spread": (
            variance_for_spread,
            "You compare a variance with 0.001. It is a mean of squares: small numbers get smaller "
            "when squared, and one weight that stands out is lost in a mean.",
        ),
        "the-other-way-round": (
            the_other_way_round,
            "'folds' and 'works' are exchanged: a gate whose weights never change can be folded.",
        ),
    },
    hints=(
        "Two questions, one after the other. The first looks at each weight by itself; the second "
        "compares weights with each other.",
        "Stuck: the formula for the slope of a sigmoid needs the weight only. Folds: what must be "
        "the same, and over which axes, if one factor per channel is to do?",
        "Largest minus smallest weight over the images and both axes of the places, for each "
        "channel; `amax` and `amin` take a tuple of axes.",
    ),
    why=(
        "Pooling and a linear layer can absorb one factor for each channel. So a gate folds if the "
        "weights of a channel differ neither between images nor between places. It is stuck if w "
        "(1 - w) is next to nothing at all weights, near 0 or near 1."
    ),
)


EXERCISES = (
    GATE,
    ATTENTION,
    TEMPERATURE_SOFTMAX,
    MULTI_HEAD,
    WITH_PLACES,
    PIXEL_ATTENTION,
    WEIGHTS_MEGABYTES,
    GRADIENT_RATIO,
    GATE_STATE,
)
