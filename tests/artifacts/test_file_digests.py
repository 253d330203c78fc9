"""Signatures of files by content."""

from __future__ import annotations

import os
import shutil

import pytest

from instsynth_dagster.artifacts import file_digests
from instsynth_dagster.artifacts.file_digests import FileDigests


@pytest.fixture
def files(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        (root / name).write_bytes(name.encode() * 9)
    return sorted(root.iterdir())


def test_a_copy_elsewhere_has_the_same_signature_and_a_change_another(tmp_path, files):
    root = files[0].parent
    digests = FileDigests(tmp_path / "cache" / "files.sqlite")
    signature = digests.signature(files, root)
    copy = tmp_path / "copy"
    shutil.copytree(root, copy, copy_function=shutil.copyfile)
    assert FileDigests(tmp_path / "other.sqlite").signature(sorted(copy.iterdir()), copy) == signature
    files[1].write_bytes(b"B.png" * 9)  # of the same length
    assert digests.signature(files, root) != signature
    files[1].rename(root / "d.png")
    assert digests.signature(sorted(root.iterdir()), root) != signature


def test_only_new_files_are_read(tmp_path, files, monkeypatch):
    read = []
    original = file_digests.file_sha256
    monkeypatch.setattr(file_digests, "file_sha256", lambda path: read.append(path.name) or original(path))
    digests = FileDigests(tmp_path / "files.sqlite")
    first = digests.signature(files, files[0].parent)
    assert digests.signature(files, files[0].parent) == first
    assert read == ["a.png", "b.png", "c.png"]
    os.utime(files[2], ns=(1, 1))
    assert digests.signature(files, files[0].parent) == first
    assert read[3:] == ["c.png"]


def test_no_files_have_a_signature_too(tmp_path):
    assert FileDigests(tmp_path / "f.sqlite").signature([], tmp_path) == FileDigests(tmp_path / "g").signature(
        [], tmp_path
    )
