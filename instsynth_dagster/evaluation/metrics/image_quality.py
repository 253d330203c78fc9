"""Image metrics of a generator (InstSynth's Table IV), in the paper's definition and in further ones.

The paper compares whole crops with their sources, which rewards changing nothing. Beside its four metrics stand others
that do not: CLIPScore of text against image with its margin over wrong classes, KID, SSIM and PSNR inside and outside
the mask, and diversity within a class.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np
import pandas as pd

from instsynth_dagster.synthesis.crops import focus
from instsynth_dagster.synthesis.gates import class_margin

if TYPE_CHECKING:
    from instsynth_dagster.models.clip import Clip

PAPER = ("clip_image_cosine", "fid", "ssim", "psnr")
FURTHER = (
    "clip_score",
    "clip_margin",
    "kid",
    "ssim_inside",
    "psnr_inside",
    "ssim_outside",
    "psnr_outside",
    "diversity",
    "real_diversity",
)
_BATCH = 64
_KID_SUBSETS, _KID_SUBSET_SIZE = 100, 100


class Features(Protocol):
    """A network that gives features of images."""

    def images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """float32 (N, D) of uint8 (H, W, 3) images."""
        ...


@dataclass(frozen=True)
class Pair:
    """A repainted crop with its source, uint8 (S, S, 3) each, and the bool (S, S) mask.

    `painted` is the generator's output before pasting: changes outside the mask are part of its quality.
    """

    class_name: str
    prompt: str
    source: np.ndarray
    painted: np.ndarray
    mask: np.ndarray


def image_quality(
    pairs: Iterable[Pair], judge: Clip, inception: Features, cut_out: bool, classes: Sequence[str]
) -> dict[str, float]:
    """The metrics of `PAPER` and `FURTHER` over all pairs, and their number `crops`.

    FID and KID compare distributions of whole repainted crops with those of their sources, in features of `inception`
    (or of the judge itself, where no Inception weights are available). SSIM (grey, 11x11 Gaussian window) and PSNR (dB,
    infinite for equal images) are means over pairs, CLIPScore is 100 * max(cosine, 0) with the prompt, and diversity is
    the mean cosine distance of two instances of a class, for repainted ones and for their sources.

    Args:
        cut_out: whether instances are shown on grey instead of in their surroundings.
        classes: classes that a crop could be mistaken for.
    """
    tables, features = [], []
    waiting = iter(pairs)
    while batch := list(islice(waiting, _BATCH)):
        tables.append(_described(batch))
        features.append(_features(batch, judge, inception, cut_out))
    if not tables:
        return {"crops": 0} | dict.fromkeys((*PAPER, *FURTHER), float("nan"))
    table = pd.concat(tables, ignore_index=True)
    real, made, real_seen, made_seen, originals, seen = (np.concatenate(parts) for parts in zip(*features, strict=True))
    class_names = table.pop("class_name").tolist()
    texts = judge.texts(table.pop("prompt").tolist())
    return {
        "crops": len(table),
        "clip_image_cosine": float((real * made).sum(axis=1).mean()),
        **distances(real_seen, made_seen),
        **table.mean().to_dict(),
        "clip_score": float(100 * np.maximum((seen * texts).sum(axis=1), 0).mean()),
        "clip_margin": float(class_margin(judge, seen, class_names, classes).mean()),
        "diversity": diversity(seen, class_names),
        "real_diversity": diversity(originals, class_names),
    }


def _described(batch: Sequence[Pair]) -> pd.DataFrame:
    return pd.DataFrame(
        {"class_name": pair.class_name, "prompt": pair.prompt} | structure(pair.source, pair.painted, pair.mask)
        for pair in batch
    )


def _features(batch: Sequence[Pair], judge: Clip, inception: Features, cut_out: bool) -> list[np.ndarray]:
    """Features of whole sources and whole repainted crops (of the judge, then for FID), of instances in their sources,
    and of repainted instances.
    """
    pasted = [np.where(pair.mask[..., None], pair.painted, pair.source) for pair in batch]
    return [
        judge.images([pair.source for pair in batch]),
        judge.images([pair.painted for pair in batch]),
        inception.images([pair.source for pair in batch]),
        inception.images([pair.painted for pair in batch]),
        judge.images([focus(pair.source, pair.mask, cut_out=cut_out) for pair in batch]),
        judge.images([focus(image, pair.mask, cut_out=cut_out) for image, pair in zip(pasted, batch, strict=True)]),
    ]


def structure(source: np.ndarray, painted: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """SSIM and PSNR of a pair over the whole crop, inside the mask, and outside of it (NaN where there is no such
    pixel).
    """
    import torch
    from torchmetrics.functional.image import structural_similarity_index_measure

    window = min(11, *(side - 1 + side % 2 for side in mask.shape))
    ours, theirs = (
        torch.from_numpy(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[None, None].float() for image in (painted, source)
    )
    _, local = structural_similarity_index_measure(
        ours, theirs, data_range=255.0, kernel_size=window, return_full_image=True
    )
    similarity = local[0, 0].numpy()
    error = (source.astype(np.float64) - painted).reshape(-1, 3) ** 2
    figures = {}
    for suffix, where in (("", np.ones_like(mask)), ("_inside", mask), ("_outside", ~mask)):
        figures["ssim" + suffix] = float(similarity[where].mean()) if where.any() else float("nan")
        figures["psnr" + suffix] = psnr(error[where.ravel()].mean()) if where.any() else float("nan")
    return figures


def psnr(mean_squared_error: float) -> float:
    """PSNR in dB for 8-bit images; infinite for equal ones."""
    return float("inf") if mean_squared_error == 0 else float(10 * np.log10(255**2 / mean_squared_error))


def distances(real: np.ndarray, made: np.ndarray) -> dict[str, float]:
    """FID and KID (mean of torch-fidelity's subsets) between two sets of features float32 (N, D)."""
    import torch
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric

    ours, theirs = (torch.from_numpy(features.astype(np.float32)) for features in (made, real))
    fid = fid_statistics_to_metric(fid_features_to_statistics(ours), fid_features_to_statistics(theirs), verbose=False)
    kid = kid_features_to_metric(
        ours,
        theirs,
        kid_subsets=_KID_SUBSETS,
        kid_subset_size=min(_KID_SUBSET_SIZE, len(real)),
        rng_seed=0,
        verbose=False,
    )
    return {
        "fid": float(fid["frechet_inception_distance"]),
        "kid": float(kid["kernel_inception_distance_mean"]),
    }


def diversity(features: np.ndarray, class_names: Sequence[str]) -> float:
    """Mean cosine distance of two images of a class, each class with equal weight; NaN where no class has two."""
    names = np.asarray(class_names)
    groups = [features[names == name] for name in np.unique(names)]
    means = [_mean_cosine_distance(group.astype(np.float64)) for group in groups if len(group) > 1]
    return float(np.mean(means)) if means else float("nan")


def _mean_cosine_distance(features: np.ndarray) -> float:
    """Mean over all pairs, without enumerating them: the cosines of the pairs sum to (|sum of unit vectors|^2 -
    N) / 2.
    """
    count = len(features)
    total = (features / np.linalg.norm(features, axis=1, keepdims=True)).sum(axis=0)
    return 1 - (total @ total - count) / (count * (count - 1))
