import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.images import encode_png
from instsynth_dagster.data.masks import encode_rle
from instsynth_dagster.settings import GateSettings
from instsynth_dagster.synthesis.gates import (
    SCORES,
    choose_crops,
    contour_gradient,
    gate_scores,
    rejection,
    sharpness,
)

SIDE = 32
GOOD = {
    "class_margin": 0.2,
    "real_similarity": 0.9,
    "source_similarity": 0.8,
    "change": 0.3,
    "seam": 1.0,
    "sharpness": 0.95,
    "upscale": 1.0,
}


class FakeClip:
    """Features are mean colours; red is a car, blue a bus."""

    def images(self, images):
        means = np.stack([image.reshape(-1, 3).mean(0) for image in images]) + 1e-3
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)

    def class_scores(self, features, classes):
        scores = np.zeros((len(features), len(CITYSCAPES.classes)), np.float32)
        scores[:, CITYSCAPES.classes.index("car")], scores[:, CITYSCAPES.classes.index("bus")] = (
            features[:, 0],
            features[:, 2],
        )
        return scores


def square(color):
    image = np.full((SIDE, SIDE, 3), 40, np.uint8)
    image[8:24, 8:24] = color
    return image


MASK = np.zeros((SIDE, SIDE), bool)
MASK[8:24, 8:24] = True


def scores_of(repainted, sources=((200, 0, 0), (180, 20, 0))):
    selected = pd.DataFrame(
        {
            "instance_id": [f"i{n}" for n in range(len(sources))],
            "crop_png": [encode_png(square(color)) for color in sources],
            "mask_counts": encode_rle(MASK)["counts"],
        }
    )
    crops = pd.DataFrame(
        {
            "instance_id": [f"i{n}" for n, _ in repainted],
            "replica": range(len(repainted)),
            "class_name": "car",
            "image_png": [encode_png(square(color)) for _, color in repainted],
        }
    )
    return gate_scores(selected, crops, FakeClip(), cut_out=False, classes=CITYSCAPES.classes)


def test_scores_tell_right_from_wrong_and_copies_from_changes():
    right, wrong, copy = scores_of([(0, (250, 0, 0)), (0, (0, 0, 250)), (1, (180, 20, 0))]).to_dict("records")
    assert right["class_margin"] > 0 > wrong["class_margin"]
    assert copy["change"] == 0
    assert copy["source_similarity"] == pytest.approx(1, abs=1e-5)
    assert copy["seam"] == 0
    assert wrong["change"] == pytest.approx((200 + 250) / 3 / 255, abs=1e-3)
    assert right["real_similarity"] < 1  # the other instance, not its own source
    assert scores_of([(0, (250, 0, 0))], sources=((200, 0, 0),))["real_similarity"].isna().all()


def test_a_failed_crop_has_no_scores():
    selected = pd.DataFrame(
        {"instance_id": ["i0"], "crop_png": [encode_png(square((9, 9, 9)))], "mask_counts": encode_rle(MASK)["counts"]}
    )
    crops = selected.assign(replica=0, class_name="car", image_png=selected["crop_png"], failure="one colour")
    scores = gate_scores(selected, crops, FakeClip(), cut_out=False, classes=CITYSCAPES.classes)
    assert scores["failure"].tolist() == ["one colour"]
    assert scores[list(SCORES)].isna().all(axis=None)


def test_spares_make_no_windows_where_nothing_is_judged():
    keys = [(f"i{n // 3}", n % 3) for n in range(9)]
    crops = pd.DataFrame(keys, columns=["instance_id", "replica"]).assign(image_png=b"x", failure="")
    crops.loc[[3, 6, 7, 8], "failure"] = "one colour"
    chosen = choose_crops(crops, None, GateSettings(min_change=0.5), 1)
    assert [(row["instance_id"], row["slot"]) for row in chosen] == [("i0", 0), ("i1", 0), ("i2", 0)]
    assert [row["replica"] for row in chosen] == [0, 1, 0]
    assert [row["image_png"] for row in chosen] == [b"x", b"x", None]
    assert [row["rejection"] for row in chosen] == ["", "one colour", "one colour"]


def test_no_crops_give_an_empty_table():
    empty = pd.DataFrame(columns=["instance_id", "replica", "class_name", "image_png"])
    assert gate_scores(pd.DataFrame(), empty, FakeClip(), cut_out=True, classes=CITYSCAPES.classes).empty


def test_the_gradient_of_a_contour_is_in_grey_levels_per_pixel():
    ramp = np.repeat(np.arange(SIDE, dtype=np.uint8)[None, :, None] * 4, SIDE, 0).repeat(3, 2)
    assert contour_gradient(ramp, MASK) == pytest.approx(4, abs=0.01)
    assert contour_gradient(ramp, np.ones_like(MASK)) == 0


def test_sharpness_is_the_share_of_the_gradient_that_is_left():
    rng = np.random.default_rng(0)
    source = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    half = (128 + (source.astype(float) - 128) / 2).astype(np.uint8)
    assert sharpness(source, source, MASK) == 1
    assert sharpness(half, source, MASK) == pytest.approx(0.5, abs=0.02)
    assert sharpness(cv2.GaussianBlur(source, (0, 0), 2), source, MASK) < 0.2
    elsewhere = np.where(MASK[..., None], source, 0).astype(np.uint8)
    assert sharpness(elsewhere, source, MASK) == 1  # neither surroundings nor the contour count
    assert np.isnan(sharpness(source, np.zeros_like(source), MASK))
    assert np.isnan(sharpness(source, source, np.zeros_like(MASK)))


def test_upscale_is_the_width_of_the_crop_over_the_width_painted():
    small = np.full((SIDE // 2, SIDE // 2, 3), 200, np.uint8)
    selected = pd.DataFrame({"instance_id": ["i"], "crop_png": [encode_png(square((9, 9, 9)))]})
    crops = pd.DataFrame({"instance_id": ["i"], "replica": 0, "class_name": "car", "image_png": [encode_png(small)]})
    scores = gate_scores(
        selected.assign(mask_counts=encode_rle(MASK)["counts"]),
        crops,
        FakeClip(),
        cut_out=False,
        classes=CITYSCAPES.classes,
    )
    assert scores["upscale"].tolist() == [2.0]


@pytest.mark.parametrize(
    ("bound", "worse"),
    [
        ("min_class_margin", {"class_margin": 0.0}),
        ("min_real_similarity", {"real_similarity": 0.1}),
        ("max_source_similarity", {"source_similarity": 0.99}),
        ("min_change", {"change": 0.01}),
        ("max_seam", {"seam": 30.0}),
        ("min_sharpness", {"sharpness": 0.4}),
        ("max_upscale", {"upscale": 3.0}),
    ],
)
def test_each_gate_rejects_on_its_own_score_only(bound, worse):
    (score,) = worse
    gates = GateSettings(**{bound: (GOOD[score] + worse[score]) / 2})
    assert rejection(GOOD, gates) == ""
    assert rejection(GOOD | worse, gates).startswith(score)
    assert rejection(GOOD | {score: float("nan")}, gates) == f"{score} cannot be computed"
    assert rejection(GOOD | worse, GateSettings()) == ""
    assert rejection(GOOD | {score: float("nan")}, GateSettings()) == ""
    assert rejection(GOOD | {"failure": "one colour"}, GateSettings()) == "one colour"


@pytest.mark.slow
@given(st.lists(st.booleans(), min_size=12, max_size=12), st.integers(1, 2), st.integers(0, 1))
def test_every_slot_is_filled_once_and_only_with_accepted_crops(good, replicas, spares):
    drawn = replicas + spares
    keys = [(f"i{n // drawn}", n % drawn) for n in range(12 // drawn * drawn)]
    crops = pd.DataFrame(keys, columns=["instance_id", "replica"]).assign(image_png=b"x")
    quality = crops[["instance_id", "replica"]].assign(**GOOD)
    quality["change"] = [0.3 if ok else 0.0 for ok in good[: len(keys)]]
    chosen = choose_crops(crops, quality, GateSettings(min_change=0.1), replicas)
    assert [(row["instance_id"], row["slot"]) for row in chosen] == [key for key in keys if key[1] < replicas]
    passed = {key for key, ok in zip(keys, good, strict=False) if ok}
    used = [(row["instance_id"], row["replica"]) for row in chosen if row["image_png"] is not None]
    assert set(used) <= passed
    assert len(used) == len(set(used))
    for row in chosen:
        assert bool(row["rejection"]) == ((row["instance_id"], row["slot"]) not in passed)
    for instance in {key[0] for key in keys}:
        wanted = min(replicas, sum(key in passed for key in keys if key[0] == instance))
        assert sum(key[0] == instance for key in used) == wanted
