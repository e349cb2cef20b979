"""One step of each arm of each experiment in the full profile, with its score and its report."""

import math

import pytest
from test_gpu import ARMS, train

from course_utils import experiments

# Bags of another size are the same code with another number.
PAIRS = [pair for pair in ARMS if not pair[0].startswith("bags_") or pair[1] == "gated attention"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "arm"), PAIRS)
def test_a_step_in_the_full_profile(name, arm):
    images = 1 if experiments.get(name).dataset == "hippocampus" else 2  # a volume: 35 slices
    fitted, data = train(name, arm, "full", images, batch_size=64)
    (row,) = fitted.history.to_dict("records")
    assert math.isfinite(row["loss"]) and math.isfinite(row["val_loss"])
    experiment = experiments.get(name)
    found = experiment.report(fitted.model, data, **experiment.options("full"))
    assert set(experiment.shown) <= set(found)
