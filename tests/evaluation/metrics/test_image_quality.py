import numpy as np
import pytest

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.evaluation.metrics.image_quality import (
    FURTHER,
    PAPER,
    Pair,
    distances,
    diversity,
    image_quality,
    structure,
)
from instsynth_dagster.evaluation.tables.views import quality_view
from tests.synthesis.test_gates import MASK, FakeClip, square


class FakeJudge(FakeClip):
    def texts(self, texts):
        colors = {"red": (1, 0, 0), "blue": (0, 0, 1)}
        return np.array([colors[next(c for c in colors if c in text)] for text in texts], np.float32)


def pairs(painted, count=6):
    rng = np.random.default_rng(0)
    for number in range(count):
        source = square((200 - 9 * number, 20 * number, 30))
        noise = rng.integers(-3, 4, source.shape)
        yield Pair("car", "a photo of a red car", source, painted(source, noise).astype(np.uint8), MASK)


@pytest.mark.slow
def test_doing_nothing_is_perfect_in_the_papers_figures_and_only_there():
    figures = image_quality(
        pairs(lambda source, noise: source), FakeJudge(), FakeJudge(), cut_out=False, classes=CITYSCAPES.classes
    )
    assert set(figures) == {"crops", *PAPER, *FURTHER}
    assert figures["crops"] == 6
    assert figures["clip_image_cosine"] == pytest.approx(1)
    assert figures["fid"] == pytest.approx(0, abs=1e-6)
    assert figures["ssim"] == pytest.approx(1, abs=1e-4)
    assert figures["psnr"] == np.inf
    assert figures["diversity"] == pytest.approx(figures["real_diversity"])


@pytest.mark.slow
def test_a_right_and_a_wrong_repainting_differ_in_text_not_in_the_papers_direction():
    def in_mask(color):
        return lambda source, noise: np.where(MASK[..., None], color, source)

    right = image_quality(
        pairs(in_mask((250, 0, 0))), FakeJudge(), FakeJudge(), cut_out=False, classes=CITYSCAPES.classes
    )
    wrong = image_quality(
        pairs(in_mask((0, 0, 250))), FakeJudge(), FakeJudge(), cut_out=False, classes=CITYSCAPES.classes
    )
    assert right["clip_score"] > wrong["clip_score"]
    assert right["clip_margin"] > 0 > wrong["clip_margin"]
    assert right["psnr_outside"] == wrong["psnr_outside"] == np.inf
    assert right["diversity"] < right["real_diversity"]


def test_inside_and_outside_are_told_apart():
    source = square((200, 0, 0))
    inside = structure(source, np.where(MASK[..., None], source // 2, source).astype(np.uint8), MASK)
    outside = structure(source, np.where(MASK[..., None], source, 90).astype(np.uint8), MASK)
    assert inside["psnr_outside"] == outside["psnr_inside"] == np.inf
    assert inside["psnr_inside"] == pytest.approx(10 * np.log10(255**2 / (100**2 / 3)))
    assert outside["psnr_outside"] == pytest.approx(10 * np.log10(255**2 / 50**2))
    assert inside["ssim_inside"] < inside["ssim"] < inside["ssim_outside"]
    whole = structure(source, source, np.ones_like(MASK))
    assert whole["ssim_inside"] == pytest.approx(1, abs=1e-4)
    assert np.isnan(whole["psnr_outside"])


def test_distances_are_zero_for_equal_sets_and_grow_with_a_shift():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(80, 8)).astype(np.float32)
    near, far = (distances(features, features + shift) for shift in (0.1, 1.0))
    assert distances(features, features)["fid"] == pytest.approx(0, abs=1e-4)
    assert near["fid"] == pytest.approx(8 * 0.1**2, rel=0.02)
    assert far["fid"] == pytest.approx(8, rel=0.02)
    assert far["kid"] > near["kid"]


def test_diversity_counts_each_class_once():
    features = np.array([[1, 0], [0, 1], [1, 0], [1, 0], [1, 0]], np.float32)
    assert diversity(features, ["car"] * 2 + ["bus"] * 3) == pytest.approx(0.5)
    assert np.isnan(diversity(features[:1], ["car"]))


def test_no_crops_give_dashes():
    import pandas as pd

    table = pd.DataFrame(
        [{"generator": "g"} | image_quality([], FakeJudge(), FakeJudge(), cut_out=True, classes=CITYSCAPES.classes)]
    )
    view = quality_view(table)
    assert set(view["g"][:-1]) == {"\N{EN DASH}"}
    assert view["g"].iloc[-1] == "0"
