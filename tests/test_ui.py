"""What Dagster's UI offers works: backfills, Materialize, and marks that say what the store holds."""

from __future__ import annotations

import pytest

from assets import build_graph
from tests.assets.test_graph import Project, settings_for
from tests.webserver import browser


@pytest.fixture
def project(tmp_path) -> Project:
    return Project(tmp_path)


def test_a_backfill_of_every_asset_succeeds(project, tmp_path):
    settings = settings_for(project.root)
    with browser(tmp_path, settings) as ui:
        for key, asset in build_graph(settings).items():
            if asset.dimensions:
                assert ui.backfill([key], asset.partitions) == "COMPLETED_SUCCESS", key
            else:
                assert ui.materialize(key).is_success, key
