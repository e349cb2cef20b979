"""Grids of numbers, and sliders that vanish where nobody watches."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch

from course_utils import figures, runtime


@pytest.fixture(autouse=True)
def no_window():
    plt.switch_backend("agg")
    yield
    plt.close("all")


def test_numbers_are_written_into_their_squares():
    whole, half = torch.tensor([[0.0, 1, 2], [3, 4, 8]]), torch.full((2, 2), 0.125)
    figure = figures.numbers([whole, half], ["whole", "half"], title="both")
    texts = [[text.get_text() for text in axis.texts] for axis in figure.axes]
    assert texts == [["0", "1", "2", "3", "4", "8"], ["0.12"] * 4]
    assert [axis.get_title() for axis in figure.axes] == ["whole", "half"]


def test_numbers_of_zero_and_with_a_gradient_can_be_drawn():
    figures.numbers([torch.zeros(2, 3), torch.rand(2, 3, requires_grad=True)], columns=1)


def test_history_has_whole_epochs_and_says_where_numbers_mean_nothing(monkeypatch):
    published = pd.DataFrame({"system": ["theirs"], "auroc": [0.9]})
    for profile, epochs in (("smoke", 1), ("standard", 1), ("standard", 5)):
        monkeypatch.setattr(runtime, "profile", lambda profile=profile: profile)
        table = pd.DataFrame({"epoch": range(1, epochs + 1), "loss": 1.0})
        table = table.assign(val_loss=2.0, auroc=0.5)
        figure = figures.history(table, "auroc", title="SYNTHETIC: a net")
        for axis in figure.axes:
            ticks = axis.get_xticks()
            assert len(ticks) and bool((ticks == ticks.round()).all())
        beside = figures.beside_published(published, "auroc", {"ours": 0.8})
        marks = [axis.get_title(loc="right") for axis in (*figure.axes, beside)]
        expected = "smoke run" if profile == "smoke" else ""
        assert marks == ["", expected, expected]
        assert figure.get_suptitle() == "SYNTHETIC: a net"


@pytest.mark.parametrize(("quiet", "drawn"), [(False, ["new", "again", "again"]), (True, [])])
def test_the_live_history_stays_in_one_place_and_out_of_stored_outputs(monkeypatch, quiet, drawn):
    found = []

    class Place:
        def update(self, figure):
            found.append("again")

    def display(figure, display_id):
        found.append("new")
        return Place()

    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setattr(runtime, "quiet", lambda: quiet)
    monkeypatch.setattr(runtime, "in_notebook", lambda: True)
    draw = figures.live_history("auroc", title="SYNTHETIC: a net")
    rows = []
    for epoch in (1, 2, 3):
        rows.append({"epoch": epoch, "loss": 1.0, "val_loss": 2.0, "auroc": 0.5})
        draw(rows)
    assert found == drawn and plt.get_fignums() == []


@pytest.mark.parametrize("quiet", [True, False])
def test_slider_draws_once_where_nobody_watches_or_without_widgets(monkeypatch, quiet):
    monkeypatch.setattr(runtime, "quiet", lambda: quiet)
    if not quiet:
        monkeypatch.setattr(figures, "find_spec", lambda name: None)
    drawn = []
    figures.slider(lambda a, b: drawn.append((a, b)), a=((1, 2, 3), 2), b=(range(4), 0))
    assert drawn == [(2, 0)]


def test_slider_is_a_widget_where_somebody_watches(monkeypatch, capsys):
    import ipywidgets

    made = []
    monkeypatch.setattr(runtime, "quiet", lambda: False)
    monkeypatch.setattr(ipywidgets, "interact", lambda draw, **sliders: made.append(sliders))
    figures.slider(lambda a: None, a=((1, 2, 3), 2))
    assert isinstance(made[0]["a"], ipywidgets.SelectionSlider)
    assert made[0]["a"].value == 2 and made[0]["a"].options == (1, 2, 3)


def test_masks_and_titles_that_would_mislead_are_refused():
    images, masks = torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, 8, 8)
    masks[:, 2:5, 2:5] = 1
    for wrong, said in (
        (masks * 255, "other than 0 and 1"),
        (masks[:, ::2, ::2], "another size than its image"),
    ):
        with pytest.raises(ValueError, match=said):
            figures.overlay(images, {"mask": wrong})
    for titles in ("ab", ["a", "b", "c"]):
        with pytest.raises(ValueError, match="Of 2 pictures there are"):
            figures.pictures(images, titles)


def test_a_mask_of_0_and_1_is_not_drawn_black():
    mask = torch.eye(8, dtype=torch.uint8)[None]
    assert figures.pictures(mask).axes[0].images[0].get_clim() == (0, 1)


def test_more_outlines_or_classes_than_can_be_told_apart_are_refused():
    images, mask = torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(1, 8, 8)
    mask[0, 2:5, 2:5] = 1
    with pytest.raises(ValueError, match="three at most"):
        figures.overlay(images, dict.fromkeys("abcd", mask))
    rows = torch.tensor([[2.0, 1, 1, 4, 4]])
    with pytest.raises(ValueError, match="A box has class 2"):
        figures.boxes(images[0], rows, ("red", "white"))
    with pytest.raises(ValueError, match="three at most"):
        figures.boxes(images[0], rows, ("red", "white", "platelet", "other"))
