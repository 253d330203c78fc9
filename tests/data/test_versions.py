"""What DVC recorded for a data set, and what it cannot have recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from instsynth_dagster.data.versions import dvc_revision

CITY = "photos/leftImg8bit/train/ulm"
RECORD = "outs:\n- md5: abc.dir\n  path: data\n"


@pytest.fixture
def tracked(tmp_path: Path) -> Path:
    """A tracked folder `data` with the city `data/photos/leftImg8bit/train/ulm`."""
    (tmp_path / "data/photos/leftImg8bit/train/ulm").mkdir(parents=True)
    (tmp_path / "data.dvc").write_text(RECORD)
    return tmp_path / "data"


@pytest.mark.parametrize("root", ["", "photos"])
def test_the_record_of_the_folder_or_of_one_above_it(tracked: Path, root: str):
    assert dvc_revision(tracked / root) == "abc.dir"


@pytest.mark.parametrize(
    "linked", ["data", "data/photos", "data/photos/leftImg8bit", "data/photos/leftImg8bit/train/ulm"]
)
def test_a_linked_folder_is_not_tracked(tracked: Path, tmp_path: Path, linked: str):
    place, outside = tmp_path / linked, tmp_path / "outside"
    place.rename(outside)
    place.symlink_to(outside)
    assert dvc_revision(tracked / "photos") is None


def test_linked_files_are_how_dvc_itself_may_place_them(tracked: Path, tmp_path: Path):
    (tmp_path / "cached").write_bytes(b"png")
    (tracked / "photos/leftImg8bit/train/ulm/frame.png").symlink_to(tmp_path / "cached")
    assert dvc_revision(tracked / "photos") == "abc.dir"


def test_a_record_of_the_link_itself_is_taken(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    assert dvc_revision(tmp_path / "elsewhere") is None
