import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from instsynth_dagster.demo.pretraining import timed
from instsynth_dagster.demo.pretraining.timed import STATE, TimedRecipe, rate_factor, train_within
from instsynth_dagster.errors import SettingsError


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(1, 1)

    def forward(self, x):
        return {"loss": (self.line(x).float() - 3 * x - 1).square().mean()}


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """A hundredth of a second passes each time somebody looks."""
    ticks = itertools.count()
    monkeypatch.setattr(timed, "time", SimpleNamespace(monotonic=lambda: next(ticks) / 100))


def batches(number):
    return {"x": torch.linspace(-1, 1, 8)[:, None] + 0.01 * (number % 5)}


def test_the_learning_rate_rises_stays_and_ends_at_zero():
    factors = [rate_factor(share) for share in (0, 0.03, 0.3, 0.6, 0.8, 1.0, 1.2)]
    assert factors == pytest.approx([0, 1, 1, 1, 0.5, 0, 0])


@pytest.mark.slow
def test_a_later_call_goes_on_where_the_first_ended(tmp_path):
    torch.manual_seed(0)
    recipe = TimedRecipe(minutes=0.1, learning_rate=0.05, weight_decay=0.0)
    told = []
    first = Line()
    result = train_within(
        first, first.line, batches, recipe, out=tmp_path, scratch=tmp_path, progress=lambda *seen: told.append(seen)
    )
    steps = int(result.curve["step"].iloc[-1])
    assert steps == len(told) == pytest.approx(200, abs=3)
    assert told[-1] == (6, 6)
    second = Line()
    again = train_within(second, second.line, batches, recipe, out=tmp_path, scratch=tmp_path)
    assert again.curve["step"].iloc[-1] == pytest.approx(2 * steps, abs=3)
    assert again.seconds > result.seconds
    assert again.curve.iloc[: len(result.curve)].equals(result.curve)
    assert second(**batches(0))["loss"] < 0.1


def test_what_is_left_is_the_average_and_what_is_kept_the_network(tmp_path):
    torch.manual_seed(0)
    model = Line()
    recipe = TimedRecipe(minutes=0.01, learning_rate=0.05)
    train_within(model, model.line, batches, recipe, out=tmp_path, scratch=tmp_path)
    state = torch.load(tmp_path / STATE, weights_only=True)
    assert torch.equal(model.line.weight, state["average"]["shadow_params"][0])
    assert not torch.equal(model.line.weight, state["network"]["weight"])


def test_a_loss_that_is_no_number_stops_the_training(tmp_path):
    model = Line()
    recipe = TimedRecipe(minutes=0.01, learning_rate=0.05)
    with pytest.raises(SettingsError, match="loss is nan"):
        train_within(
            model, model.line, lambda _: {"x": torch.tensor([[math.nan]])}, recipe, out=tmp_path, scratch=tmp_path
        )
    assert not (tmp_path / STATE).exists()
