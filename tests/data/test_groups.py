"""Groups of images and their splits."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instsynth_dagster.data.groups import (
    bounded,
    city_names,
    folder_groups,
    hash_groups,
    name_groups,
    split_by_fraction,
    table_groups,
)
from instsynth_dagster.errors import DatasetError

FILES = ["site a/001.jpg", "site a/002.jpg", "site b/deep/001.jpg", "003.jpg"]


def test_groups_by_folder_name_and_table(tmp_path: Path) -> None:
    assert list(folder_groups(FILES).values()) == ["site a", "site a", "site b/deep", "all"]
    assert list(name_groups(FILES, r"(\d+)\.jpg$").values()) == ["001", "002", "001", "003"]
    with pytest.raises(DatasetError, match=r"captures nothing of '003\.jpg'"):
        name_groups(FILES, r"^(site .)/")
    table = tmp_path / "groups.csv"
    table.write_text("file,camera\nsite a/001.jpg,x\n002.jpg,y\nsite b/deep/001.jpg,x\n003.jpg,z\n")
    assert list(table_groups(FILES, table, "camera").values()) == ["x", "y", "x", "z"]
    with pytest.raises(DatasetError, match="has no column 'site'"):
        table_groups(FILES, table, "site")
    with pytest.raises(DatasetError, match=r"names no camera for 'x\.jpg'"):
        table_groups(["x.jpg"], table, "camera")


def test_buckets_depend_on_the_path_alone() -> None:
    files = [f"{number}.jpg" for number in range(400)]
    few, all_of_them = hash_groups(files[:20], 8), hash_groups(files, 8)
    assert few == {file: all_of_them[file] for file in few}
    assert len(set(all_of_them.values())) == 8


def test_thousands_of_folders_become_a_bounded_number_and_none_is_divided() -> None:
    groups = {f"{number}/{frame}.jpg": str(number) for number in range(2000) for frame in range(2)}
    found = bounded(groups, 50)
    assert len(set(found.values())) <= 50
    assert all(found[f"{number}/0.jpg"] == found[f"{number}/1.jpg"] for number in range(2000))
    assert bounded({"a": "x"}, 50) == {"a": "x"}


@given(st.lists(st.integers(1, 30), min_size=2, max_size=20), st.floats(0.05, 0.9), st.integers(0, 9))
def test_a_fraction_takes_whole_groups_and_leaves_some_to_train(sizes, fraction, seed) -> None:
    groups = {f"{group}/{number}": str(group) for group, size in enumerate(sizes) for number in range(size)}
    splits = split_by_fraction(groups, fraction, seed)
    assert splits == split_by_fraction(groups, fraction, seed)
    assert set(splits.values()) == {"train", "val"}
    val = sum(sizes[int(group)] for group, split in splits.items() if split == "val")
    assert val <= fraction * sum(sizes) + max(sizes)


def test_one_group_cannot_be_divided() -> None:
    with pytest.raises(DatasetError, match="all images are in the one group 'x'"):
        split_by_fraction({"a": "x", "b": "x"}, 0.2, 0)


def test_names_are_usable_as_partitions_and_never_collide() -> None:
    names = city_names([("train", "Süd/Halle 3"), ("val", "Süd/Halle 3"), ("train", "日本"), ("train", "süd halle 3")])
    assert names["val", "Süd/Halle 3"] == "sud-halle-3-val"
    assert names["train", "Süd/Halle 3"].startswith("sud-halle-3-")
    assert names["train", "日本"].startswith("group-")
    assert len(set(names.values())) == 4
    assert city_names([("train", "north")]) == {("train", "north"): "north"}
