from pathlib import Path

import numpy as np
import pytest

from instsynth_dagster.errors import CheckpointError
from instsynth_dagster.models.captioner import Captioner
from tests.tiny_captioner import save_tiny_captioner


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_tiny_captioner(tmp_path_factory.mktemp("blip"))


@pytest.mark.slow
def test_a_caption_is_one_line_and_the_same_again(folder):
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), dtype=np.uint8)
    first, second = Captioner(folder, 6), Captioner(folder, 6)
    for image in images:
        text = first.caption(image)
        assert text
        assert text == second.caption(image) == " ".join(text.split())
    assert len(first.caption(images[0]).split()) > len(Captioner(folder, 2).caption(images[0]).split())


def test_what_cannot_be_loaded_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"captions\.model: .*nowhere cannot be loaded"):
        Captioner(tmp_path / "nowhere", 6)
