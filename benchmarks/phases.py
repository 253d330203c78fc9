"""Frames per second and peak memory of phases 1 and 3 on synthetic 2048x1024 frames, against the official algorithm.

The peer does the per-frame work the way InstSynth's published scripts do it: one full-frame boolean mask per instance
id, crops and pastes through full-frame arrays. Both read the same PNGs and make as many windows. No generator runs: the
"repainted" crop is the crop itself, shifted in colour.

python benchmarks/phases.py --frames 24
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES, Frame, list_frames, read_frame
from instsynth_dagster.data.images import decode_png, encode_png
from instsynth_dagster.data.instances import instance_index
from instsynth_dagster.demo.city import write_demo_city
from instsynth_dagster.settings import DemoCitySettings, IntegrationSettings, SelectionSettings
from instsynth_dagster.synthesis.crops import cut_selected
from instsynth_dagster.synthesis.selection import select_instances
from instsynth_dagster.synthesis.synthetic_windows import synthetic_window

SELECTION = SelectionSettings(policy="balanced", k=3, min_area=1000, quota=10_000)
INTEGRATION = IntegrationSettings()


def ours(frames: list[Frame]) -> int:
    """Index, select, crop, paste and cut windows; returns the number of windows."""
    windows = 0
    for frame in frames:
        image, ids = read_frame(frame)
        table = instance_index(ids, labels=CITYSCAPES)
        table = table.assign(frame_id=frame.frame_id)
        table["instance_id"] = [f"{frame.frame_id}:{value}" for value in table["value"]]
        for row in cut_selected(image, ids, select_instances(table, SELECTION, CITYSCAPES.classes), SELECTION):
            repainted = encode_png(255 - decode_png(row["crop_png"]))
            row |= {"repainted_png": repainted, "slot": 0, "source_sha256": ""}
            synthetic_window(image, ids, frame.city, windows, row, INTEGRATION, 0, labels=CITYSCAPES)
            windows += 1
    return windows


def peer(frames: list[Frame]) -> int:
    """The same steps with one boolean frame per instance id; returns the number of windows."""
    windows = 0
    for frame in frames:
        image, ids = read_frame(frame)
        found = []
        for value in np.unique(ids):
            if value >= 1000:
                mask = ids == value
                rows, columns = np.where(mask)
                box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
                cv2.connectedComponents(mask.astype(np.uint8))
                found.append((int(mask.sum()), int(value), box, mask))
        found = sorted((entry for entry in found if entry[0] >= SELECTION.min_area), key=lambda entry: -entry[0])
        for _, _, box, mask in found[: SELECTION.k]:
            _peer_window(image, ids, box, mask)
            windows += 1
    return windows


def _peer_window(image: np.ndarray, ids: np.ndarray, box: tuple[int, int, int, int], mask: np.ndarray) -> None:
    height, width = ids.shape
    x1, y1, x2, y2 = (int(edge) for edge in box)
    cropped = np.where(mask[..., None], image, 0)[y1:y2, x1:x2]
    repainted = decode_png(encode_png(255 - decode_png(encode_png(cropped))))
    layer = np.zeros_like(image)
    layer[y1:y2, x1:x2] = repainted
    composite = np.where(mask[..., None], layer, image)
    side = min(max(y2 - y1, (x2 - x1) // 2) * 2, height, width // 2)
    left, top = min(max((x1 + x2) // 2 - side, 0), width - 2 * side), min(max((y1 + y2 - side) // 2, 0), height - side)
    window = composite[top : top + side, left : left + 2 * side]
    encode_png(cv2.resize(window, INTEGRATION.window_size, interpolation=cv2.INTER_LANCZOS4))
    labels = ids[top : top + side, left : left + 2 * side].astype(np.uint16)
    encode_png(cv2.resize(labels, INTEGRATION.window_size, interpolation=cv2.INTER_NEAREST))
    cv2.absdiff(image, composite).max(axis=2)[~mask].max(initial=0)


SIDES: dict[str, Callable[[list[Frame]], int]] = {"ours": ours, "peer": peer}


def measure(side: str, root: Path) -> dict[str, float]:
    """Run one side over the frames in this process."""
    frames = list_frames(root, "benchmark")
    SIDES[side](frames[:1])
    started = time.perf_counter()
    windows = SIDES[side](frames)
    seconds = time.perf_counter() - started
    # not getrusage: its peak is inherited from the parent process
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return {
        "frames_per_second": len(frames) / seconds,
        "windows_per_second": windows / seconds,
        "peak_mib": int(peak[1]) / 1024 if peak else float("nan"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(measure(arguments.side, arguments.root)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_demo_city(
            Path(folder),
            "train",
            "benchmark",
            DemoCitySettings(width=2048, height=1024, frames_per_city=arguments.frames),
        )
        rows = {}
        for side in SIDES:  # a process each, so that peak memory is one side's own
            command = [sys.executable, __file__, "--side", side, "--root", folder]
            rows[side] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    table = pd.DataFrame(rows).T
    print(f"{arguments.frames} frames of 2048x1024, K={SELECTION.k}, one process, phases 1 and 3 with PNG input/output")
    print(table.round(2).to_string())
    ratio = table.loc["ours"] / table.loc["peer"]
    print(f"ours/peer: {ratio['windows_per_second']:.2f}x windows per second, {ratio['peak_mib']:.2f}x peak memory")


if __name__ == "__main__":
    main()
