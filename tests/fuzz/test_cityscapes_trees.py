"""Damaged Cityscapes trees: what reads them and what plans on them."""

from __future__ import annotations

import json
import os
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from assets import build_graph
from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.data.cityscapes_data import CityscapesData
from instsynth_dagster.data.formats.cityscapes import (
    CITYSCAPES,
    Frame,
    list_semantic_frames,
    read_image,
    read_label_ids,
    write_frame,
)
from instsynth_dagster.errors import DatasetError, UserError
from instsynth_dagster.graph import data_signature
from instsynth_dagster.settings import Settings
from jobs.planning import planned_assets
from tests.fuzz.oracle import nothing_stored, outcome

CITY, SIZE = "aachen", (12, 20)
NAMES = ("aachen_000000_000019", "aachen_000001_000019")
ODD_NAMES = (
    "aachen_000000_000019 copy",
    "aachen",
    "bremen_000000_000019",
    "aachen_000000_0000\u00e4",
    "aachen_000000_\u202e91",
    "aachen_a b_c",
    "..",
    "aachen_..._000019",
    "aachen_000000_000019\n",
    "aachen_000000_000019:26001",
    "aachen_1_2_3",
    "x" * 200,
    "-aachen_000000_000019",
    "aachen_000002_\udcff",
)
LENGTH = st.integers(0, 90)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    rng = np.random.default_rng(0)
    for number, name in enumerate(NAMES):
        ids = np.full(SIZE, 7, np.int32)
        ids[2:6, 3 + number : 9] = 26000
        ids[7:10, 10:14] = 24
        write_frame(root, "train", name, rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8), ids)
    return root


def png(width: int, height: int, depth: int, color: int, rows: bytes = b"") -> bytes:
    """A PNG that declares a size and holds what it likes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


SIZES = st.sampled_from([(0, 5), (5, 0), (1, 1), (100_000, 100_000), (2**31 - 1, 2**31 - 1), (9000, 9000), (70_000, 1)])


def truncated(data, file: Path) -> None:
    file.write_bytes(file.read_bytes()[: data.draw(LENGTH)])


def flipped(data, file: Path) -> None:
    content = bytearray(file.read_bytes() or b"\0")
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)


def garbage(data, file: Path) -> None:
    file.write_bytes(data.draw(st.binary(max_size=60)))


def other_format(data, file: Path) -> None:
    kind = data.draw(st.sampled_from(["JPEG", "GIF", "BMP", "TIFF", "EPS"]))
    with file.open("wb") as out:
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(out, kind)


def other_array(data, file: Path) -> None:
    height, width = data.draw(st.sampled_from([SIZE, SIZE, (3, 4), (1, 1)]))
    shape = (height, width, *data.draw(st.sampled_from([(), (3,), (4,)])))
    kind = data.draw(st.sampled_from([np.uint8, np.uint16]))
    value = data.draw(st.sampled_from([0, 7, 24, 255]) if kind is np.uint8 else st.integers(0, 65535))
    file.write_bytes(cv2.imencode(".png", np.full(shape, value, kind))[1].tobytes())


def declared(data, file: Path) -> None:
    width, height = data.draw(SIZES)
    depth, color = data.draw(st.sampled_from([(8, 2), (16, 0), (8, 0), (1, 0), (3, 2), (8, 3)]))
    file.write_bytes(png(width, height, depth, color, data.draw(st.binary(max_size=20))))


def missing(data, file: Path) -> None:
    file.unlink()


def a_folder(data, file: Path) -> None:
    file.unlink()
    file.mkdir()


def a_pipe(data, file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def a_link(data, file: Path) -> None:
    target = data.draw(st.sampled_from(["/nowhere", ".", "/etc/hostname", "/dev/zero", file.name]))
    file.unlink()
    file.symlink_to(target)


def unreadable(data, file: Path) -> None:
    file.chmod(0)


def renamed(data, file: Path) -> None:
    for other in sorted(file.parents[3].rglob(f"{NAMES[0]}*")):
        end = other.name.removeprefix(NAMES[0])
        other.rename(other.with_name(data.draw(st.shared(st.sampled_from(ODD_NAMES), key="name")) + end))


def polygons(data, file: Path) -> None:
    content = data.draw(st.sampled_from([b"", b"{", b"[]", json.dumps({"objects": 5}).encode(), b"\xff"]))
    for other in file.parents[3].rglob("*_polygons.json"):
        other.write_bytes(content)


def moved_city(data, file: Path) -> None:
    city, split = file.parent, file.parents[1]
    way = data.draw(st.sampled_from(["empty", "gone", "file", "link", "two splits", "loop", "no split"]))
    if way == "two splits":
        shutil.copytree(city, split.with_name("val") / CITY)
    elif way == "no split":
        split.rename(split.with_name("x" * 100))
    else:
        shutil.rmtree(city)
        if way == "empty":
            city.mkdir()
        elif way == "file":
            city.write_bytes(b"")
        elif way != "gone":
            city.symlink_to("/nowhere" if way == "link" else CITY)


def duplicated(data, file: Path) -> None:
    end = file.name.removeprefix(NAMES[0]).removeprefix(NAMES[1])
    file.with_name(f"aachen_{data.draw(st.integers(0, 3)):06}_000019{end}").write_bytes(file.read_bytes())


MUTATIONS: tuple[Callable, ...] = (
    truncated,
    flipped,
    garbage,
    other_format,
    other_array,
    declared,
    missing,
    a_folder,
    a_pipe,
    a_link,
    unreadable,
    renamed,
    polygons,
    moved_city,
    duplicated,
)


def survey(root: Path, artifacts: Path) -> tuple:
    """All that looks at a tree: plan, signature, frame table, instance table."""
    chosen = Settings.model_validate(
        {
            "artifacts": {"root": str(artifacts)},
            "dataset": {"root": str(root), "train_cities": [CITY]},
            "classes": ["car"],
            "prompts": {"car": {"templates": ["a car"]}},
        }
    )
    planned_assets(build_graph(chosen), Store(artifacts))
    data_signature(chosen)
    dataset = CityscapesData(root, CITYSCAPES)
    frames = dataset.frame_table(CITY)
    return frames, dataset.instance_table(frames)


def labels(root: Path) -> list[tuple[Frame, np.ndarray]]:
    found = list_semantic_frames(root, CITY)
    return [(frame, read_label_ids(frame.ids)) for frame in found if read_image(frame.image) is not None]


@pytest.mark.slow
@settings(max_examples=200)
@given(st.data())
def test_a_damaged_tree_is_read_right_or_named(tree, data):
    with tempfile.TemporaryDirectory() as folder:
        root, artifacts = Path(folder, "data"), Path(folder, "artifacts")
        shutil.copytree(tree, root)
        artifacts.mkdir()
        try:
            for mutate in data.draw(st.lists(st.sampled_from(MUTATIONS), min_size=1, max_size=2), label="mutations"):
                files = sorted(path for path in root.rglob("*.png") if path.is_file() and not path.is_symlink())
                if not files:
                    break
                file = data.draw(st.sampled_from(files), label="file")
                damage(mutate, data, file)
            with nothing_stored(artifacts):
                found = outcome("trees", lambda: survey(root, artifacts), str(root))
                semantic = outcome("trees", lambda: labels(root), str(root))
        finally:
            for path in root.rglob("*"):
                if not path.is_symlink():
                    path.chmod(0o700)
        if not isinstance(found, UserError):
            agrees_with_opencv(root, *found)
        if not isinstance(semantic, UserError):
            for frame, read in semantic:
                expected = cv2.imread(str(frame.ids), cv2.IMREAD_UNCHANGED)
                if expected is None:  # a mark at the file's end that only OpenCV insists on: the content must be whole
                    expected = cv2.imread(str(tree / frame.ids.relative_to(root)), cv2.IMREAD_UNCHANGED)
                np.testing.assert_array_equal(read, expected)


def damage(mutate: Callable, data, file: Path) -> None:
    try:
        mutate(data, file)
    except (FileNotFoundError, FileExistsError, NotADirectoryError, PermissionError):
        return  # an earlier mutation was in the way


def agrees_with_opencv(root: Path, frames, instances) -> None:
    """The tables against another decoder, and against the names on disk."""
    on_disk = {
        path.name.removesuffix("_leftImg8bit.png") for path in root.glob(f"leftImg8bit/*/{CITY}/*_leftImg8bit.png")
    }
    assert set(frames["frame_id"]) == on_disk
    areas = dict(zip(instances["instance_id"], instances["area"], strict=True)) if len(instances) else {}
    for row in frames.itertuples():
        ids = cv2.imread(str(root / row.ids), cv2.IMREAD_UNCHANGED)
        assert ids.dtype == np.uint16
        assert ids.shape == (row.height, row.width)
        values, counts = np.unique(ids[ids >= 1000], return_counts=True)
        assert {f"{row.frame_id}:{v}": c for v, c in zip(values, counts, strict=True)}.items() <= areas.items()


@pytest.mark.parametrize("city", ["*", "..", "a/b", "", "[a-z]*", "AACHEN", "a\nb", "aachen/../aachen"])
def test_a_city_is_never_a_path_or_a_pattern(tree, city):
    found = outcome("trees", lambda: CityscapesData(tree, CITYSCAPES).frame_table(city), repr(city))
    assert isinstance(found, DatasetError)
