"""A hub to download from, and a cache of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.models.fake_hub import FakeHub, serving


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[FakeHub]:
    with serving() as served:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", served.url)
        template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        yield served
