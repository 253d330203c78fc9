"""PQ and mIoU against the official scripts on random streets that hold every rule."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.evaluation.metrics.panoptic_quality import panoptic_counts, panoptic_quality
from instsynth_dagster.evaluation.metrics.semantic_iou import class_iou, semantic_counts
from tests.evaluation.metrics.random_streets import SIZE, ellipse, random_ids

Pair = tuple[np.ndarray, np.ndarray]


@pytest.fixture(autouse=True)
def older_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The official scripts call what NumPy 2.4 no longer has."""
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)


def random_pairs(seed: int, count: int = 3) -> list[Pair]:
    """Truths, and claims that shift, rename, lose and invent segments."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        ids = random_ids(rng)
        ids[:20] = CITYSCAPES.by_name["sky"].id
        claimed = np.roll(ids, rng.integers(-2, 3, 2), axis=(0, 1))
        claimed[(claimed < 1000) & np.isin(claimed, [24, 26, 33, 29])] = CITYSCAPES.by_name["road"].id
        claimed[(claimed >= 29000) & (claimed < 30000)] = 26042
        for value in (24900, 31900, CITYSCAPES.by_name["wall"].id, 0):
            claimed[ellipse(rng)] = value
        pairs.append((ids, claimed.astype(np.int32)))
    return pairs


def as_png(ids: np.ndarray) -> Image.Image:
    return Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=2).astype(np.uint8))


def official_pq(pairs: list[Pair], folder: Path) -> dict[str, float]:
    """PQ per class of the official script; the truth is made by its own conversion."""
    from cityscapesscripts.evaluation import evalPanopticSemanticLabeling as script
    from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic

    town = folder / "truth" / "gtFine" / "val" / "town"
    town.mkdir(parents=True)
    claims = folder / "claims"
    claims.mkdir()
    annotations = []
    for number, (ids, claimed) in enumerate(pairs):
        name = f"town_{number:06}_000019"
        Image.fromarray(ids.astype(np.uint16)).save(town / f"{name}_gtFine_instanceIds.png")
        labels = np.where(claimed >= 1000, claimed // 1000, claimed)
        claimed = np.where(np.isin(labels, [label.id for label in CITYSCAPES.evaluated]), claimed, 0)
        as_png(claimed).save(claims / f"{name}.png")
        segments = [
            {"id": value, "category_id": value // 1000 if value >= 1000 else value}
            for value in np.unique(claimed).tolist()
            if value
        ]
        annotations.append({"image_id": name, "file_name": f"{name}.png", "segments_info": segments})
    (folder / "claims.json").write_text(json.dumps({"annotations": annotations}))
    (folder / "panoptic").mkdir()
    convert2panoptic(str(folder / "truth" / "gtFine"), str(folder / "panoptic"), setNames=["val"])
    found = folder / "panoptic" / "cityscapes_panoptic_val"
    truth = json.loads(found.with_suffix(".json").read_text())
    categories = {row["id"]: row for row in truth["categories"]}
    by_image = {row["image_id"]: row for row in annotations}
    matched = [(row, by_image[row["image_id"]]) for row in truth["annotations"]]
    stat = script.pq_compute_single_core(0, matched, str(found), str(claims), categories)
    _, per_class = stat.pq_average(categories, isthing=None)
    counted = {label for label, row in stat.pq_per_cat.items() if row.tp + row.fp + row.fn}
    return {categories[label]["name"]: per_class[label]["pq"] for label in counted}


@pytest.mark.parametrize("seed", range(4))
def test_pq_equals_the_official_script(seed: int, tmp_path: Path) -> None:
    pairs = random_pairs(seed)
    expected = official_pq(pairs, tmp_path)
    found = panoptic_quality(np.sum([panoptic_counts(*pair, labels=CITYSCAPES) for pair in pairs], axis=0))
    ours = {label.name: value for label, value in zip(CITYSCAPES.evaluated, found, strict=True) if not np.isnan(value)}
    assert ours == pytest.approx(expected, abs=1e-12)
    assert 0.1 < np.nanmean(found) < 0.95


@pytest.mark.parametrize("seed", range(4))
def test_iou_equals_the_official_script(seed: int, tmp_path: Path) -> None:
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as script

    args = copy.copy(script.args)
    args.quiet, args.JSONOutput, args.evalPixelAccuracy = True, False, False
    pairs, truths, predicted = random_pairs(seed), [], []
    for number, (ids, claimed) in enumerate(pairs):
        names = [tmp_path / f"town_{number:06}_000019{tail}" for tail in ("_gtFine_labelIds.png", "_pred.png")]
        for path, values in zip(names, (ids, claimed), strict=True):
            Image.fromarray(np.where(values >= 1000, values // 1000, values).astype(np.uint8)).save(path)
        Image.fromarray(ids.astype(np.uint16)).save(tmp_path / f"town_{number:06}_000019_gtFine_instanceIds.png")
        truths.append(str(names[0]))
        predicted.append(str(names[1]))
    expected = script.evaluateImgLists(predicted, truths, args)
    labels = [np.where(claimed >= 1000, claimed // 1000, claimed).astype(np.uint8) for _, claimed in pairs]
    found = class_iou(
        np.sum(
            [semantic_counts(ids, label, labels=CITYSCAPES) for (ids, _), label in zip(pairs, labels, strict=True)],
            axis=0,
        )
    )
    theirs = [expected["classScores"][label.name] for label in CITYSCAPES.evaluated]
    np.testing.assert_allclose(found, theirs, rtol=0, atol=1e-12)
    assert np.nanmean(found) == pytest.approx(expected["averageScoreClasses"], abs=1e-12)


def test_a_perfect_map_scores_one_and_an_empty_one_nothing() -> None:
    ids = random_pairs(0)[0][0]
    claimed = np.where((ids < 1000) & np.isin(ids, [24, 26, 33]), 0, ids)  # no claim on crowds
    assert np.nanmin(panoptic_quality(panoptic_counts(ids, claimed, labels=CITYSCAPES))) == 1
    assert np.nanmax(panoptic_quality(panoptic_counts(ids, np.zeros(SIZE, np.int32), labels=CITYSCAPES))) == 0


def test_maps_of_different_size_are_refused() -> None:
    ids = random_pairs(0)[0][0]
    for counts in (panoptic_counts, semantic_counts):
        with pytest.raises(ValueError, match="the predicted map is"):
            counts(ids, np.zeros((3, 3), np.uint8), CITYSCAPES)
