import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.masks import decode_rle
from instsynth_dagster.segmenters.shared import scoring
from instsynth_dagster.segmenters.shared.scoring import Geometry, class_probabilities, score_instances

CLASSES = ("person", "car", "bus")


def brute_force(class_logits, mask_logits, geometry, k):
    """Every (query, class) pair at full size, one by one."""
    rows = []
    probabilities = class_logits.softmax(-1)
    for q, logits in enumerate(mask_logits):
        full = F.interpolate(logits[None, None], geometry.padded, mode="bilinear", align_corners=False)
        full = full[..., : geometry.content[0], : geometry.content[1]]
        full = F.interpolate(full, geometry.image, mode="bilinear", align_corners=False)[0, 0]
        for c, name in enumerate(CLASSES):
            rows.append((float(probabilities[q, c]), name, full))
    rows = sorted(rows, key=lambda row: -row[0])[:k]
    kept = [
        (name, p * float(full.sigmoid()[full > 0].mean()), (full > 0).numpy())
        for p, name, full in rows
        if (full > 0).any()
    ]
    return sorted(kept, key=lambda row: -row[1])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), queries=st.integers(1, 6), k=st.integers(1, 20), chunk=st.integers(1, 4000))
def test_equal_to_brute_force_whatever_the_chunk(seed, queries, k, chunk):
    generator = torch.Generator().manual_seed(seed)
    class_logits = torch.randn(queries, len(CLASSES) + 1, generator=generator)
    mask_logits = torch.randn(queries, 8, 16, generator=generator) - 1
    geometry = Geometry(image=(45, 91), content=(29, 61), padded=(32, 64))
    expected = brute_force(class_logits, mask_logits, geometry, k)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "CHUNK_PIXELS", chunk)
        table = score_instances(class_probabilities(class_logits), mask_logits, CLASSES, geometry, k, labels=CITYSCAPES)
    assert table["class_name"].tolist() == [row[0] for row in expected]
    assert table["score"].tolist() == pytest.approx([row[1] for row in expected], abs=1e-5)
    assert (table["score"].diff().dropna() <= 0).all()
    for (_, row), (_, _, mask) in zip(table.iterrows(), expected, strict=True):
        got = decode_rle({"size": [row["mask_height"], row["mask_width"]], "counts": row["mask_counts"]})
        assert np.array_equal(got, mask)


def test_empty_masks_are_left_out_and_the_table_keeps_its_columns():
    geometry = Geometry((16, 16), (16, 16), (32, 32))
    table = score_instances(
        class_probabilities(torch.zeros(3, 4)), torch.full((3, 8, 8), -5.0), CLASSES, geometry, 10, labels=CITYSCAPES
    )
    assert table.empty
    assert list(table.columns) == ["class_name", "score", "mask_counts", "mask_height", "mask_width"]


def test_no_object_is_never_predicted():
    logits = torch.tensor([[0.0, 0.0, 0.0, 50.0]])
    geometry = Geometry((32, 32), (32, 32), (32, 32))
    table = score_instances(
        class_probabilities(logits), torch.full((1, 8, 8), 5.0), CLASSES, geometry, 10, labels=CITYSCAPES
    )
    assert set(table["class_name"]) <= set(CLASSES)
    assert (table["score"] < 1e-6).all()
