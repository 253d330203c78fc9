"""A batch that is split into micro-batches has the loss and the gradients of the whole batch, for every kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from instsynth_dagster.errors import SettingsError
from instsynth_dagster.segmenters.contract import get_segmenter
from instsynth_dagster.segmenters.shared.normaliser import BatchTotals, batch_cross_entropy, batch_mean, batch_total
from instsynth_dagster.segmenters.training.micro_batches import divisors, split
from tests.segmenters.test_contract import CLASSES, TINY
from tests.segmenters.test_maskdiff import ARCHITECTURE as MASKDIFF
from tests.segmenters.toy import ToyDataset, tiny

KINDS = {
    **TINY,
    "oneformer": TINY["oneformer"] | {"text_branch": False},
    "maskdiff": {"architecture": MASKDIFF},
    "siseg": {"architecture": {"radius": 3, "offsets": 8}},
}
BATCH = 4


class UnevenDataset(ToyDataset):
    """Every other image holds one instance, as few as none of some crops."""

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image, ids = super().__getitem__(index)
        return image, ids if index % 2 else np.where(np.isin(ids, (24000, 7)), ids, 7)


RAND, RANDN, RANDINT = torch.rand, torch.randn, torch.randint


def same_for_every_image(draw):
    """Random numbers that do not depend on how many images are asked for."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return draw()


def _sizes(shape) -> tuple[int, ...]:
    return tuple(shape[0]) if shape and isinstance(shape[0], tuple | list) else shape


def _rand(*shape, **options):
    sizes = _sizes(shape)
    return same_for_every_image(lambda: RAND(1, *sizes[1:], **options)).expand(*sizes).clone()


def _randn(*shape, **options):
    sizes = _sizes(shape)
    return same_for_every_image(lambda: RANDN(1, *sizes[1:], **options)).expand(*sizes).clone()


def _randn_like(other, **options):
    return _randn(*other.shape, dtype=other.dtype, device=other.device)


def _randint(*bounds_and_shape, **options):
    *bounds, shape = bounds_and_shape
    return same_for_every_image(lambda: RANDINT(*bounds, (1, *shape[1:]), **options)).expand(*shape).clone()


def without_chance(patch) -> None:
    """No draw, and no batch normalisation, that depends on which other images are at hand."""
    for name, draw in (("rand", _rand), ("randn", _randn), ("randn_like", _randn_like), ("randint", _randint)):
        patch.setattr(torch, name, draw)
    patch.setattr(torch, "randperm", lambda count, **_: torch.arange(count))
    patch.setattr(F, "dropout", lambda x, *_, **__: x)
    patch.setattr(F, "batch_norm", lambda x, _mean, _var, *affine, **__: F.instance_norm(x, None, None, *affine[:2]))


Step = tuple[float, dict[str, torch.Tensor]]
"""Loss and gradients of a training step."""


def first_steps(kind: str, folder, monkeypatch) -> list[list[Step]]:
    """The first step of each training of a kind, taken from the same weights in 1, 2 and 4 micro-batches."""
    from instsynth_dagster.segmenters.training.trainer import SegmenterTrainer

    original, found = SegmenterTrainer.training_step, []

    def in_every_number(self, model, inputs, *_):
        found.append([])
        for micro_batches in divisors(BATCH):
            self._micro_batches = micro_batches
            model.zero_grad()
            with monkeypatch.context() as patch:
                without_chance(patch)
                loss = original(self, model, dict(inputs))
            gradients = {n: p.grad.clone() for n, p in self._module.named_parameters() if p.grad is not None}
            found[-1].append((float(loss), gradients))
        return loss

    with monkeypatch.context() as patch:
        patch.setattr(SegmenterTrainer, "training_step", in_every_number)
        recipe = tiny(**({"kind": kind, "steps": 1, "batch_size": BATCH, "checkpoint_every": 1} | KINDS[kind]))
        arguments = {"classes": CLASSES, "seed": 0, "out": folder / "out", "scratch": folder / "scratch"}
        get_segmenter(kind).fit(UnevenDataset(), recipe, **arguments)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_have_the_loss_and_the_gradients_of_the_batch(kind: str, tmp_path, monkeypatch):
    steps = first_steps(kind, tmp_path, monkeypatch)
    assert [len(step) for step in steps] == [3] * len(steps) != []
    for (loss, gradients), *in_parts in steps:
        whole = torch.cat([gradient.flatten() for gradient in gradients.values()])
        for own, others in in_parts:
            # RF-DETR matches on a number of points that grows with the batch
            assert own == pytest.approx(loss, rel=1e-2 if kind == "rf_detr" else 1e-5)
            assert others.keys() == gradients.keys()
            if kind != "rf_detr":
                parts = torch.cat([others[name].flatten() for name in gradients])
                assert (whole - parts).norm() <= 1e-4 * whole.norm()


def test_totals_are_those_of_all_micro_batches_in_the_order_of_the_terms():
    logits, wanted = torch.randn(6, 3, 5), torch.randint(0, 3, (6, 5))
    weight, values = torch.tensor([1.0, 1.0, 0.1]), torch.rand(6, 4)
    known = torch.arange(6)[:, None].expand(6, 4) > 3

    def loss(piece: dict) -> torch.Tensor:
        mean = batch_mean(piece["values"]) + batch_mean(piece["values"], piece["known"])
        return mean + batch_cross_entropy(piece["logits"], piece["wanted"], weight)

    batch = {"logits": logits, "wanted": wanted, "values": values, "known": known}
    whole = F.cross_entropy(logits, wanted, weight) + values.mean() + values[known].mean()
    torch.testing.assert_close(loss(batch), whole)
    for micro_batches in divisors(6):
        totals, parts = BatchTotals(), split(batch, micro_batches)
        for part in parts:
            with totals.count():
                loss(part)
        with_totals = []
        for part in parts:
            with totals.divide():
                with_totals.append(loss(part))
        torch.testing.assert_close(sum(with_totals), whole)
    assert batch_total(3.0) == 3
    assert batch_mean(values, torch.zeros(6, 4)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["oneformer", "detectron2"])
def test_a_loss_that_compares_images_is_not_split_into_micro_batches(kind: str, tmp_path, monkeypatch):
    if kind == "detectron2":
        pytest.importorskip("detectron2")
    from instsynth_dagster.segmenters.training.trainer import SegmenterTrainer

    original = SegmenterTrainer.compute_loss

    def cramped(self, model, inputs, *rest, **options):
        if len(next(iter(inputs.values()))) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, model, inputs, *rest, **options)

    monkeypatch.setattr(SegmenterTrainer, "compute_loss", cramped)
    recipe = tiny(kind=kind, steps=1, batch_size=BATCH, **TINY[kind])
    with pytest.raises(SettingsError, match="no memory for 4 samples at once; lower batch_size or crop"):
        get_segmenter(kind).fit(ToyDataset(), recipe, classes=CLASSES, seed=0, out=tmp_path / "o", scratch=tmp_path)
