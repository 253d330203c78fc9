"""Quality gates: scores of a repainted crop, and the verdict that follows from thresholds on them.

Scores are stored without verdicts, so that a changed threshold runs neither generator nor CLIP again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pandas as pd

from instsynth_dagster.data.images import decode_png, png_size, resize_image
from instsynth_dagster.data.masks import decode_rle
from instsynth_dagster.settings import GateSettings
from instsynth_dagster.synthesis.crops import focus

if TYPE_CHECKING:
    from instsynth_dagster.artifacts.store import Store
    from instsynth_dagster.models.clip import Clip

_BATCH = 64
ANYTHING = "a photo"
"""Text that the only class of a data set is compared with."""
SCORE_ASSETS = ("crop_quality", "mask_agreement")
"""Assets of a generator that hold scores of its crops; the second one exists where `judge.masks` is set."""
MASK_IOU = "mask_iou"
"""The score of `mask_agreement`."""
SCORES = ("class_margin", "real_similarity", "source_similarity", "change", "seam", "sharpness", "upscale")


def gate_scores(
    selected: pd.DataFrame, crops: pd.DataFrame, judge: Clip, cut_out: bool, classes: Sequence[str]
) -> pd.DataFrame:
    """Scores of every crop of one partition.

    Args:
        selected: rows of `selected_instances`.
        crops: rows of `inpainted_crops` for them.
        cut_out: whether instances are shown to the judge on grey instead of in their surroundings.
        classes: classes that a crop could be mistaken for.

    Returns:
        instance_id, replica, failure (why the crop failed, or "") and, NaN for one that failed,
        class_margin: cosine with the right class minus the best wrong one (CLIP, text against image);
        real_similarity: cosine with the most similar *other* real instance of the partition, NaN without one;
        source_similarity: cosine with its own source;
        change: mean absolute difference to the source inside the mask, 0..1;
        seam: gradient along the contour of the mask minus that of the source, grey levels per pixel;
        sharpness: see `sharpness`; upscale: width of the crop over the width at which it was painted.
    """
    if crops.empty:
        return pd.DataFrame(columns=["instance_id", "replica", "failure", *SCORES])
    own = Sources(selected)
    real = dict(zip(own, _features(judge, (focus(*own[name], cut_out=cut_out) for name in own)), strict=True))
    rows = []
    for crop, (image, mask, source) in zip(crops.to_dict("records"), pasted_crops(crops, own), strict=True):
        row = {"instance_id": crop["instance_id"], "replica": crop["replica"], "failure": crop.get("failure", "")}
        row["change"] = float(np.abs(image.astype(np.int16) - source)[mask].mean() / 255) if mask.any() else 0.0
        row["seam"] = contour_gradient(image, mask) - contour_gradient(source, mask)
        row["sharpness"] = sharpness(image, source, mask)
        row["upscale"] = len(mask) / png_size(crop["image_png"])[0]
        rows.append(row)
    features = _features(judge, (focus(image, mask, cut_out=cut_out) for image, mask, _ in pasted_crops(crops, own)))
    table = pd.DataFrame(rows)
    table["class_margin"] = class_margin(judge, features, crops["class_name"].tolist(), classes)
    table["source_similarity"] = (features * np.stack([real[i] for i in crops["instance_id"]])).sum(1).astype(float)
    table["real_similarity"] = _other_similarity(features, crops["instance_id"].tolist(), real)
    table.loc[table["failure"] != "", list(SCORES)] = np.nan
    return table[["instance_id", "replica", "failure", *SCORES]]


def _features(judge: Clip, images: Iterator[np.ndarray]) -> np.ndarray:
    """Image features float32 (N, D), with few images in memory at once."""
    return np.concatenate([judge.images(batch) for batch in iter(lambda: list(islice(images, _BATCH)), [])])


def class_margin(judge: Clip, features: np.ndarray, class_names: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """float (N,): cosine with the right class minus that with the best wrong one of `classes`.

    Where there is only one class, the wrong one is "a photo".
    """
    if len(classes) == 1:
        own, anything = judge.class_scores(features, classes)[:, 0], features @ judge.texts([ANYTHING])[0]
        return (own - anything).astype(np.float64)
    scores = judge.class_scores(features, classes).astype(np.float64)
    right = np.array([classes.index(name) for name in class_names])
    rows = np.arange(len(scores))
    own = scores[rows, right]
    scores[rows, right] = -np.inf
    return own - scores.max(axis=1)


def contour_gradient(image: np.ndarray, mask: np.ndarray) -> float:
    """Mean gradient magnitude (grey levels per pixel) of uint8 (S, S, 3) along the contour of bool (S, S)."""
    inside = mask.astype(np.uint8)
    contour = cv2.dilate(inside, np.ones((3, 3), np.uint8)) != cv2.erode(inside, np.ones((3, 3), np.uint8))
    if not contour.any():
        return 0.0
    return mean_gradient(image, contour)


def mean_gradient(image: np.ndarray, where: np.ndarray) -> float:
    """Mean gradient magnitude (grey levels per pixel) of uint8 (H, W, 3) on the pixels of `where`, bool (H, W), not
    empty.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    # integers and doubles: sums in single precision differ in the last bit from run to run
    dx, dy = (cv2.Sobel(grey, cv2.CV_16S, *order, ksize=3)[where].astype(np.float64) for order in ((1, 0), (0, 1)))
    return float(np.hypot(dx, dy).mean() / 8)


def sharpness(painted: np.ndarray, source: np.ndarray, mask: np.ndarray) -> float:
    """Mean gradient magnitude of a repainting over that of its source, inside the mask without its contour.

    1 is as sharp as the source, 0 is flat; NaN where the source itself is flat or the mask has no interior.

    Args:
        painted, source: uint8 (S, S, 3).
        mask: bool (S, S).
    """
    inside = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    if not inside.any():
        return float("nan")
    ours, theirs = (mean_gradient(image, inside) for image in (painted, source))
    return ours / theirs if theirs > 0 else float("nan")


def rejection(row: Mapping[str, Any], gates: GateSettings) -> str:
    """The reason why a crop is rejected, or "": it failed, or a score is beyond its bound or cannot be computed.

    Args:
        row: row of `inpainted_crops` or `stored_scores`, with the scores that `gates` has bounds for.
    """
    if row.get("failure"):
        return str(row["failure"])
    bounds = (
        ("class_margin", gates.min_class_margin, 1),
        ("real_similarity", gates.min_real_similarity, 1),
        ("source_similarity", gates.max_source_similarity, -1),
        ("change", gates.min_change, 1),
        ("seam", gates.max_seam, -1),
        ("sharpness", gates.min_sharpness, 1),
        ("upscale", gates.max_upscale, -1),
        (MASK_IOU, gates.min_mask_iou, 1),
    )
    for name, bound, sign in bounds:
        if bound is None:
            continue
        if np.isnan(row[name]):
            return f"{name} cannot be computed"
        if sign * (row[name] - bound) < 0:
            return f"{name} {row[name]:.3f} {'below' if sign > 0 else 'above'} {bound:g}"
    return ""


def stored_scores(store: Store, member: str, partition: str, kinds: Sequence[str]) -> pd.DataFrame:
    """Scores of a generator's crops of one partition: rows of `crop_quality`, with `mask_iou` if `mask_agreement` is
    among `kinds`.

    Args:
        member: the generator, or the arm.
        kinds: those of `SCORE_ASSETS` that exist for it.
    """
    scores = store.read(f"{member}/{kinds[0]}", partition)
    if scores.empty or len(kinds) == 1:
        return scores
    ious = store.read(f"{member}/{kinds[1]}", partition, ["instance_id", "replica", MASK_IOU])
    return scores.merge(ious, on=["instance_id", "replica"], how="left", validate="one_to_one")


def choose_crops(
    crops: pd.DataFrame, quality: pd.DataFrame | None, gates: GateSettings, replicas: int
) -> list[dict[str, Any]]:
    """For each instance the `replicas` crops to paste: accepted ones in the order in which they were drawn, then
    accepted spares, then none.

    Args:
        quality: `stored_scores` of the crops; None without a judge, when only failed crops are rejected.

    Returns:
        Rows of crops with `slot` (0 .. replicas - 1), the scores, and `rejection` (of the slot's own crop, "" if it
        passed); `image_png` is None where the original pixels stay.
    """
    if crops.empty:
        return []
    rows, judged = crops, GateSettings()
    if quality is not None:
        scores = quality.drop(columns="failure", errors="ignore")
        rows, judged = crops.merge(scores, on=["instance_id", "replica"], validate="one_to_one", sort=False), gates
    chosen: list[dict[str, Any]] = []
    for _, group in rows.groupby("instance_id", sort=False):
        drawn = [row | {"rejection": rejection(row, judged)} for row in group.to_dict("records")]
        spares = iter([row for row in drawn[replicas:] if not row["rejection"]])
        for slot, row in enumerate(drawn[:replicas]):
            used = row
            if row["rejection"]:
                used = next(spares, row | {"image_png": None}) | {"rejection": row["rejection"]}
            chosen.append(used | {"slot": slot})
    return chosen


class Sources(Mapping[str, tuple[np.ndarray, np.ndarray]]):
    """Crop uint8 (S, S, 3) and mask bool (S, S) of each selected instance by its id, decoded on access."""

    def __init__(self, selected: pd.DataFrame) -> None:
        self._rows = {row["instance_id"]: row for row in selected.to_dict("records")}
        self._last: tuple[str, tuple[np.ndarray, np.ndarray]] | None = None

    def __getitem__(self, instance: str) -> tuple[np.ndarray, np.ndarray]:
        if self._last is None or self._last[0] != instance:  # replicas of an instance are adjacent
            row = self._rows[instance]
            crop = decode_png(row["crop_png"])
            mask = decode_rle({"size": list(crop.shape[:2]), "counts": row["mask_counts"]})
            self._last = instance, (crop, mask)
        return self._last[1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def pasted_crops(
    crops: pd.DataFrame, sources: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Source with the repainting inside the mask, mask, and source, at the source's size, in the order of `crops`."""
    for instance, data in zip(crops["instance_id"], crops["image_png"], strict=True):
        source, mask = sources[instance]
        painted = resize_image(decode_png(data), (source.shape[1], source.shape[0]))
        yield np.where(mask[..., None], painted, source), mask, source


def _other_similarity(features: np.ndarray, instances: Sequence[str], real: dict[str, np.ndarray]) -> np.ndarray:
    """float (N,): greatest cosine with a real instance other than the crop's own source; NaN without any."""
    cosines = features.astype(np.float64) @ np.stack(list(real.values())).T
    own = np.array(list(real))[None] == np.array(instances)[:, None]
    best = np.where(own, -np.inf, cosines).max(axis=1)
    return np.where(np.isinf(best), np.nan, best)
