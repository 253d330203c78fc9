"""Frames, instances, repaintings and predictions of $INSTSYNTH_PARAMS in FiftyOne: python -m jobs.fiftyone

Where FiftyOne is not installed, or with --coco, the same is written as COCO JSON below `artifacts.results`, with the
attributes synthetic, prompt and source, and predictions as COCO results; FiftyOne elsewhere, and most tools, open that.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from instsynth_dagster.artifacts.files import write_atomically
from instsynth_dagster.artifacts.store import open_store
from instsynth_dagster.data.dataset import DataSet
from instsynth_dagster.data.masks import decode_rle, mask_box
from instsynth_dagster.data.opening import open_dataset
from instsynth_dagster.data.rasterise import object_mask
from instsynth_dagster.errors import UserError
from instsynth_dagster.evaluation.browsing import Picture, pictures
from instsynth_dagster.settings import load_settings
from instsynth_dagster.synthesis.export_coco import CocoFile

FOLDER, JSON = "fiftyone", "annotations.json"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.fiftyone", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--coco", action="store_true", help="write COCO JSON even where FiftyOne is installed")
    parser.add_argument("--name", default="instsynth", help="of the data set in FiftyOne; one of that name is replaced")
    given = parser.parse_args(arguments)
    try:
        settings = load_settings()
        dataset = open_dataset(settings)
        folder = settings.artifacts.results / FOLDER
        found = pictures(settings, open_store(settings), dataset, folder)
        if given.coco or not _is_installed():
            print(f"COCO JSON: {write_coco(found, dataset, folder)}")
            return
        session = launch_app(found, given.name)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    session.wait()


def _is_installed() -> bool:
    try:
        import fiftyone  # noqa: F401
    except ImportError:
        return False
    return True


def write_coco(found: Iterable[Picture], dataset: DataSet, folder: Path) -> Path:
    """Write pictures as COCO JSON, and the predictions of each training as COCO results beside it; returns the path of
    the JSON.

    File names in it are relative to the nearest common parent folder of the data set and `folder`, which `info` names.
    """
    base = Path(os.path.commonpath([dataset.root.resolve(), folder.resolve()]))
    info = {"description": "Frames and synthetic windows"}
    info["file_names_are_relative_to"] = os.path.relpath(base, folder.resolve())
    results: dict[str, list[dict[str, Any]]] = {}
    path, staged = folder / JSON, folder / f"{JSON}.tmp"
    with CocoFile(staged, dataset.labels, dataset.categories(), info=info) as coco:
        for picture in found:
            name = picture.path.resolve().relative_to(base).as_posix()
            number = coco.add_original(
                name, picture.image, {"tag": picture.tag, **picture.attributes}, picture.repainted
            )
            for run, table in picture.predictions.items():
                results.setdefault(run, []).extend(_results(table, number, dataset))
    os.replace(staged, path)
    for run, rows in results.items():
        name = f"predictions_{run.replace('|', '_')}.json"
        write_atomically(folder / name, json.dumps(rows).encode())
    return path


def _results(table: pd.DataFrame, image: int, dataset: DataSet) -> list[dict[str, Any]]:
    return [
        {
            "image_id": image,
            "category_id": dataset.labels[row["class_name"]].category_id,
            "segmentation": _code(row),
            "score": row["score"],
        }
        for row in table.to_dict("records")
    ]


def _code(row: Mapping[Hashable, Any]) -> dict[str, Any]:
    """Run-length code of a row of a prediction table."""
    return {"size": [row["mask_height"], row["mask_width"]], "counts": row["mask_counts"]}


def launch_app(found: Iterable[Picture], name: str) -> Any:
    """The session of FiftyOne's app with a data set of pictures: the field `ground_truth`, a field for each training,
    and the attributes of each picture.
    """
    import fiftyone

    dataset = fiftyone.Dataset(name, overwrite=True)
    dataset.add_samples([_sample(fiftyone, picture) for picture in found])
    return fiftyone.launch_app(dataset)


def _sample(fiftyone: Any, picture: Picture) -> Any:
    sample = fiftyone.Sample(filepath=str(picture.path.resolve()), tags=[picture.tag], **picture.attributes)
    width, height = picture.image.size
    shown = []
    for place, found in enumerate(picture.image.objects):
        mask = object_mask(found.segmentation, (height, width))
        attributes = {"iscrowd": found.crowd, "synthetic": place == picture.repainted}
        if mask.any():
            shown.append(_detection(fiftyone, found.label, mask, attributes))
    sample["ground_truth"] = fiftyone.Detections(detections=shown)
    for run, table in picture.predictions.items():
        rows = [
            _detection(fiftyone, row["class_name"], mask, {"confidence": row["score"]})
            for row in table.to_dict("records")
            if (mask := decode_rle(_code(row))).any()
        ]
        sample["".join(c if c.isalnum() else "_" for c in run)] = fiftyone.Detections(detections=rows)
    return sample


def _detection(fiftyone: Any, label: str, mask: Any, attributes: dict[str, Any]) -> Any:
    """A detection of a bool (H, W) mask; boxes are shares of the picture, masks those of the box."""
    x1, y1, x2, y2 = mask_box(mask)
    height, width = mask.shape
    box = [x1 / width, y1 / height, (x2 - x1) / width, (y2 - y1) / height]
    return fiftyone.Detection(label=label, bounding_box=box, mask=mask[y1:y2, x1:x2], **attributes)


if __name__ == "__main__":
    main()
