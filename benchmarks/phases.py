"""Frames per second and peak memory of phases 1 and 3 on synthetic 2048x1024 frames, against the official algorithm.

The peer does the per-frame work the way InstSynth's published scripts do it: one full-frame boolean mask per instance
id, crops and pastes through full-frame arrays, PNGs by OpenCV as it comes. Both read the same PNGs and make as many
windows. No generator runs: the "repainted" crop is the crop itself, shifted in colour. Ours runs in one process and
shared by two, which win nothing where the cores are busy with something else: CPU seconds say what was paid.

python benchmarks/phases.py --frames 24
"""

from __future__ import annotations

import argparse
import json
import os
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
    repainted = cv2.imdecode(_peer_png(255 - cv2.imdecode(_peer_png(cropped), cv2.IMREAD_COLOR)), cv2.IMREAD_COLOR)
    layer = np.zeros_like(image)
    layer[y1:y2, x1:x2] = repainted
    composite = np.where(mask[..., None], layer, image)
    side = min(max(y2 - y1, (x2 - x1) // 2) * 2, height, width // 2)
    left, top = min(max((x1 + x2) // 2 - side, 0), width - 2 * side), min(max((y1 + y2 - side) // 2, 0), height - side)
    window = composite[top : top + side, left : left + 2 * side]
    _peer_png(cv2.resize(window, INTEGRATION.window_size, interpolation=cv2.INTER_LANCZOS4))
    labels = ids[top : top + side, left : left + 2 * side].astype(np.uint16)
    _peer_png(cv2.resize(labels, INTEGRATION.window_size, interpolation=cv2.INTER_NEAREST))
    cv2.absdiff(image, composite).max(axis=2)[~mask].max(initial=0)


def _peer_png(pixels: np.ndarray) -> np.ndarray:
    return cv2.imencode(".png", pixels)[1]


SIDES: dict[str, Callable[[list[Frame]], int]] = {"ours": ours, "peer": peer}
ROWS = {"ours": ("ours", 1), "ours, 2 processes": ("ours", 2), "peer": ("peer", 1)}
"""Side and number of processes."""


def measure(side: str, root: Path, share: slice) -> dict[str, float]:
    """Run one side over its share of the frames in this process, once a line comes in on the standard input."""
    frames = list_frames(root, "benchmark")
    SIDES[side](frames[:1])
    print("ready", flush=True)
    input()
    started, cpu = time.perf_counter(), time.process_time()
    windows = SIDES[side](frames[share])
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    # not getrusage: its peak is inherited from the parent process
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return {"windows": windows, "seconds": seconds, "cpu": cpu, "peak": int(peak[1]) / 1024 if peak else float("nan")}


def together(side: str, processes: int, root: str, frames: int) -> dict[str, float]:
    """Run one side in processes that start at once and share the frames."""
    command = [sys.executable, __file__, "--side", side, "--root", root]
    children = [
        subprocess.Popen(
            [*command, "--share", f"{number}/{processes}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for number in range(processes)
    ]
    if any(child.stdout and child.stdout.readline() != "ready\n" for child in children):
        raise SystemExit("phases: a process ended before it began")
    for child in children:
        assert child.stdin
        child.stdin.write("go\n")
        child.stdin.flush()
    parts = pd.DataFrame([json.loads(child.communicate()[0]) for child in children])
    seconds, windows = parts["seconds"].max(), parts["windows"].sum()
    return {
        "frames_per_second": frames / seconds,
        "windows_per_second": windows / seconds,
        "cpu_seconds_per_window": parts["cpu"].sum() / windows,
        "peak_mib": parts["peak"].sum(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--share", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    if arguments.side:
        number, processes = map(int, arguments.share.split("/"))
        print(json.dumps(measure(arguments.side, arguments.root, slice(number, None, processes))))
        return
    with tempfile.TemporaryDirectory() as folder:
        drawn = DemoCitySettings(width=2048, height=1024, frames_per_city=arguments.frames)
        write_demo_city(Path(folder), "train", "benchmark", drawn)
        busy = os.getloadavg()[0]
        rows = {name: together(side, processes, folder, arguments.frames) for name, (side, processes) in ROWS.items()}
    table = pd.DataFrame(rows).T
    print(f"{arguments.frames} frames of 2048x1024, K={SELECTION.k}, phases 1 and 3 with PNG input/output")
    print(f"{os.cpu_count()} cores, on which {busy:.1f} processes ran before: times are meaningful on idle cores")
    print(table.round(3).to_string())
    ratio, shared = table.loc["ours"] / table.loc["peer"], table.loc["ours, 2 processes"] / table.loc["ours"]
    print(
        f"ours/peer: {ratio['windows_per_second']:.2f}x windows per second, {1 / ratio['cpu_seconds_per_window']:.2f}x "
        f"windows per CPU second, {ratio['peak_mib']:.2f}x peak memory"
    )
    print(f"2 processes/1: {shared['windows_per_second']:.2f}x windows per second")


if __name__ == "__main__":
    main()
