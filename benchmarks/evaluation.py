"""Cityscapes AP and COCO AP on a val-sized load, ours beside the official scripts in the same run.

The load is 500 id maps of 2048x1024 with 100 predicted masks each (shaken copies of instances, and strays), as RLE.
The official Cityscapes script reads a PNG for every prediction and takes about half a second a frame, so it runs on the
first few frames only; the ratio is per frame, and on those frames both must agree to 1e-12.

python benchmarks/evaluation.py --frames 500 --official 10
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.masks import decode_rle, encode_rle
from instsynth_dagster.evaluation.metrics.coco_ap import annotate, evaluate
from instsynth_dagster.evaluation.metrics.instance_ap import average_precision, match_frame

SIZE = (1024, 2048)
Frame = tuple[np.ndarray, pd.DataFrame]
R = TypeVar("R")


def ellipse(
    rng: np.random.Generator, shift: float = 0.0, at: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """bool (H, W) with an ellipse of instance size, and its parameters (x, y, half width, half height)."""
    if at is None:
        at = np.array([rng.uniform(0, SIZE[1]), rng.uniform(300, 800), rng.uniform(6, 90), rng.uniform(8, 110)])
    x, y, width, height = at * (1 + shift * rng.normal(0, 1, 4) * [0.02, 0.02, 1, 1])
    mask = np.zeros(SIZE, np.uint8)
    cv2.ellipse(mask, ((x, y), (2 * max(width, 2), 2 * max(height, 2)), float(rng.uniform(0, 20))), 1, -1)
    return mask.astype(bool), at


def frame(seed: int, predictions: int) -> Frame:
    rng = np.random.default_rng(seed)
    ids, placed = np.full(SIZE, CITYSCAPES.by_name["road"].id, np.int32), []
    for index in range(int(rng.integers(12, 28))):
        name = str(rng.choice(CITYSCAPES.classes))
        mask, at = ellipse(rng)
        ids[mask] = CITYSCAPES.by_name[name].id * 1000 + index
        placed.append((name, at))
    rows = []
    for _ in range(predictions):
        if rng.random() < 0.6:
            name, at = placed[int(rng.integers(len(placed)))]
            mask, _ = ellipse(rng, 0.1, at)
        else:
            name, (mask, _) = str(rng.choice(CITYSCAPES.classes)), ellipse(rng)
        if mask.any():
            rows.append((f"f{seed:04d}", name, float(rng.random()), encode_rle(mask)["counts"], *SIZE))
    columns = ["frame_id", "class_name", "score", "mask_counts", "mask_height", "mask_width"]
    return ids, pd.DataFrame(rows, columns=columns)


def timed(title: str, call: Callable[[], R], frames: int) -> tuple[R, float]:
    started = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - started
    print(f"{title:34} {seconds:8.2f} s  {1000 * seconds / frames:8.2f} ms a frame", flush=True)
    return result, seconds / frames


def official_ap(frames: list[Frame], folder: Path) -> tuple[float, float, float]:
    """AP and AP50 of the official script, and its seconds; writing the PNGs that it reads is not counted."""
    # NumPy 2.4 lacks in1d, and its count_nonzero gives a number that json does not know
    vars(np)["in1d"] = np.isin
    count_nonzero, vars(np)["count_nonzero"] = np.count_nonzero, lambda array: int(np.sum(array != 0))
    from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as script

    truths, predicted = [], []
    for index, (ids, table) in enumerate(frames):
        path = folder / f"a_{index:06d}_000000_gtFine_instanceIds.png"
        Image.fromarray(ids.astype(np.uint16)).save(path)
        lines = []
        for number, row in enumerate(table.itertuples()):
            mask = decode_rle({"size": list(SIZE), "counts": row.mask_counts})
            Image.fromarray(mask.astype(np.uint8)).save(folder / f"{index}_{number}.png", compress_level=0)
            lines.append(f"{index}_{number}.png {CITYSCAPES.by_name[row.class_name].id} {row.score!r}")
        prediction = folder / f"a_{index:06d}_000000.txt"
        prediction.write_text("\n".join(lines))
        truths.append(str(path))
        predicted.append(str(prediction))
    options = copy.copy(script.args)
    options.JSONOutput, options.quiet = False, True
    options.gtInstancesFile, options.predictionPath = str(folder / "truth.json"), str(folder)
    here = Path.cwd()
    os.chdir(folder)  # the script leaves matches.json where it is called
    started = time.perf_counter()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            result = script.evaluateImgLists(predicted, truths, options)
    finally:
        os.chdir(here)
        vars(np)["count_nonzero"] = count_nonzero
    seconds = time.perf_counter() - started
    return result["averages"]["allAp"], result["averages"]["allAp50%"], seconds


def annotations(frames: list[Frame]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The load as COCO data set and results, masks as RLE."""
    truth: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for number, (ids, table) in enumerate(frames):
        for value in np.unique(ids).tolist():
            if value >= 1000:
                rle = encode_rle(ids == value)
                box = {"bbox": [0, 0, 1, 1], "area": int((ids == value).sum()), "iscrowd": 0}
                about = {"id": len(truth) + 1, "image_id": number, "category_id": value // 1000}
                truth.append(box | about | {"segmentation": rle})
        for row in table.itertuples():
            rle = {"size": list(SIZE), "counts": row.mask_counts}
            label = CITYSCAPES.by_name[row.class_name].id
            found.append({"image_id": number, "category_id": label, "segmentation": rle, "score": row.score})
    images = [{"id": number, "height": SIZE[0], "width": SIZE[1]} for number in range(len(frames))]
    categories = [{"id": CITYSCAPES.by_name[name].id, "name": name} for name in CITYSCAPES.classes]
    return {"images": images, "categories": categories, "annotations": truth}, found


Peer = Callable[[dict[str, Any], list[dict[str, Any]]], float]


def coco_peers() -> list[tuple[str, Peer]]:
    """pycocotools, and the compiled evaluators that are installed."""
    peers: list[tuple[str, Peer]] = []
    for module, coco, evaluation in (
        ("pycocotools", "pycocotools.coco", "pycocotools.cocoeval"),
        ("faster_coco_eval", "faster_coco_eval", "faster_coco_eval"),
        ("hotcoco", "hotcoco", "hotcoco"),
        ("ultrafast_pycocotools", "ultrafast_pycocotools.coco", "ultrafast_pycocotools.cocoeval"),
    ):
        with contextlib.suppress(ImportError):
            evaluator = import_module(evaluation)
            kind = getattr(evaluator, "COCOeval_faster", None) or evaluator.COCOeval
            peers.append((module, partial(peer_ap, import_module(coco).COCO, kind)))
    return peers


def peer_ap(coco: Any, evaluator: Any, truth: dict[str, Any], found: list[dict[str, Any]]) -> float:
    """AP of a library with the interface of pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "truth.json"
        path.write_text(json.dumps(truth))
        data = coco(str(path))
        evaluation = evaluator(data, data.loadRes(found), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--predictions", type=int, default=100, help="per frame")
    parser.add_argument("--official", type=int, default=10, help="frames for the official script")
    arguments = parser.parse_args()
    frames = [frame(seed, arguments.predictions) for seed in range(arguments.frames)]
    total = sum(len(table) for _, table in frames)
    print(f"{len(frames)} frames of {SIZE[1]}x{SIZE[0]}, {total} predicted masks")

    scores, ours = timed(
        "Cityscapes AP, ours",
        lambda: average_precision(
            [match_frame(*pair, labels=CITYSCAPES) for pair in frames], classes=CITYSCAPES.classes
        ),
        len(frames),
    )
    print(f"  AP {scores.ap:.6f}, AP50 {scores.ap50:.6f}")
    few = frames[: arguments.official]
    with tempfile.TemporaryDirectory() as folder:
        ap, ap50, seconds = official_ap(few, Path(folder))
    print(f"{'Cityscapes AP, official script':34} {seconds:8.2f} s  {1000 * seconds / len(few):8.2f} ms a frame")
    same = average_precision([match_frame(*pair, labels=CITYSCAPES) for pair in few], classes=CITYSCAPES.classes)
    assert max(abs(same.ap - ap), abs(same.ap50 - ap50)) < 1e-12, (same, ap, ap50)
    print(f"  equal to 1e-12 on {len(few)} frames; official / ours: {seconds / len(few) / ours:.0f}x")

    given, _ = timed(
        "masks out of id maps, for COCO AP",
        lambda: annotate(frames, classes=CITYSCAPES.classes, labels=CITYSCAPES),
        len(frames),
    )
    (ap, _), ours = timed("COCO AP, ours, from annotations", lambda: evaluate(given), len(frames))
    coco = float(np.nanmean(ap[..., 0]))
    for name, load in coco_peers():
        truth, found = annotations(frames)
        peer, seconds = timed(f"COCO AP, {name}, from annotations", partial(load, truth, found), len(frames))
        assert abs(peer - coco) < 1e-12, (name, peer, coco)
        print(f"  equal to 1e-12; ours / {name}: {ours / seconds:.2f}")


if __name__ == "__main__":
    main()
