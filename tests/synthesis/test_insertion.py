from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.images import decode_png
from instsynth_dagster.data.masks import decode_rle
from instsynth_dagster.settings import IntegrationSettings
from instsynth_dagster.synthesis.insertion import (
    Donor,
    InsertedInstance,
    find_place,
    inserted_row,
    pasted_donor,
    standing_things,
    with_inserted,
)
from instsynth_dagster.synthesis.integration import outside_difference, paste
from instsynth_dagster.synthesis.places import StandingPlaces

ROAD, BUILDING, POLE, SKY, CAR = 7, 11, 17, 23, 26
HEIGHT, WIDTH = 96, 160
PLACES = StandingPlaces(
    heights=np.array([12.0, 20.0]),
    feet=np.array([64.0, 80.0]),
    slope=0.5,
    offset=-20.0,
    residuals=np.array([-0.05, 0.05]),
    grounds=frozenset({ROAD}),
)
DONOR = Donor("a_000000_000019:26000", np.ones((15, 30), bool))


def street():
    """Sky, a row of buildings down to row 50, road below."""
    ids = np.full((HEIGHT, WIDTH), ROAD, np.int32)
    ids[:50], ids[:20] = BUILDING, SKY
    return ids


def labels_of(ids):
    return np.where(ids >= 1000, ids // 1000, ids)


def place(ids, seed=0, donor=DONOR, places=PLACES, min_area=20):
    return find_place(ids, labels_of(ids), donor, places, {ROAD}, min_area, seed, CITYSCAPES)


def row_of(newcomer, value=26005):
    return inserted_row(np.zeros((HEIGHT, WIDTH, 3), np.uint8), newcomer, "a_000001_000019", "car", value, 0.25)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_a_newcomer_stands_on_ground_and_is_as_tall_as_its_foot_says(seed):
    ids = street()
    newcomer = place(ids, seed)
    assert isinstance(newcomer, InsertedInstance)
    x1, y1, x2, y2 = newcomer.box
    assert (newcomer.visible == newcomer.whole).all()
    assert y2 - y1 == pytest.approx(0.5 * y2 - 20, rel=0.15, abs=2)
    assert x2 - x1 == pytest.approx(2 * (y2 - y1), abs=2)
    assert 1 / 1.6 <= newcomer.scale <= 1.6
    assert (ids[y2 + 1, x1:x2] == ROAD).all()
    after = with_inserted(ids, row_of(newcomer))
    assert (after == 26005).sum() == newcomer.visible.sum()
    assert (after[~newcomer.visible] == ids[~newcomer.visible]).all()


def test_the_same_seed_gives_the_same_place():
    one, two, other = place(street(), 3), place(street(), 3), place(street(), 4)
    assert one.box == two.box
    assert one.box != other.box


def test_what_is_nearer_hides_it_and_what_is_further_is_hidden():
    ids = street()
    ids[40:90, ::8] = POLE  # poles that stand at row 90, nearer than anybody
    ids[52:56, 0:160:5] = np.where(ids[52:56, 0:160:5] == ROAD, 26001, ids[52:56, 0:160:5])  # far away
    newcomer = place(ids)
    assert isinstance(newcomer, InsertedInstance)
    assert newcomer.visible.sum() < newcomer.whole.sum()
    assert (ids[newcomer.whole & ~newcomer.visible] == POLE).all()
    assert not (ids[newcomer.visible] == POLE).any()


def test_nobody_is_hidden_almost_wholly():
    ids = street()
    for column in range(0, WIDTH - 4, 6):
        ids[52:58, column : column + 3] = 24000 + column  # a far person everywhere
    tall = replace(PLACES, feet=np.array([80.0]))
    answer = place(ids, places=tall)
    if isinstance(answer, InsertedInstance):
        left = with_inserted(ids, row_of(answer))
        for value in np.unique(ids[ids >= 1000]):
            assert (left == value).sum() >= (ids == value).sum() / 2


@pytest.mark.parametrize(
    ("ids", "changes", "reason"),
    [
        (np.full((HEIGHT, WIDTH), 21, np.int32), {}, "no ground that the class stands on"),
        (street(), {"donor": Donor("d", np.ones((60, 20), bool))}, "its shape would have to be stretched too much"),
        (street(), {"min_area": 5000}, "too little of it would be visible"),
        (street(), {"places": replace(PLACES, feet=np.array([120.0]), slope=0.1, offset=0.0)}, "it would leave the"),
    ],
)
def test_without_a_place_the_commonest_obstacle_is_told(ids, changes, reason):
    assert f"no place found in 60 tries: {reason}" in place(ids, **changes)


def test_how_far_down_everything_reaches():
    ids = street()
    ids[60:70, 10:20] = 26000
    ids[40:75, 100:102] = POLE
    ids[30:55, 130:132] = POLE
    foot = standing_things(ids, labels_of(ids), {ROAD}, CITYSCAPES)
    assert foot.foot[65, 15] == 70
    assert (foot.foot[60, 100], foot.foot[50, 130]) == (75, 55)
    assert foot.foot[10, 0] == 20
    assert foot.foot[30, 0] == 50
    assert foot.foot[90, 80] == 0
    assert foot.areas == {26000: 100}


@pytest.mark.parametrize("seed", range(6))
def test_a_newcomer_can_be_repainted_or_pasted_where_it_stands(seed):
    """Donor pixels end up inside the visible part and nowhere else, in frame coordinates."""
    ids = street()
    ids[40:90, ::16] = POLE
    newcomer = place(ids, seed)
    image = np.random.default_rng(0).integers(0, 99, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    row = inserted_row(image, newcomer, "a_000001_000019", "car", 26009, 0.25)
    box = row["crop_x1"], row["crop_y1"], row["crop_x2"], row["crop_y2"]
    side = box[2] - box[0]
    mask = decode_rle({"size": [side, side], "counts": row["mask_counts"]})
    assert decode_png(row["crop_png"]).shape == (side, side, 3)
    assert mask.sum() == row["area"] == newcomer.visible.sum()
    assert (row["instance_id"], row["frame_id"]) == (newcomer.donor.instance_id, "a_000001_000019")
    donor_mask = np.zeros((50, 50), bool)
    donor_mask[10 : 10 + len(newcomer.donor.shape), 5 : 5 + newcomer.donor.shape.shape[1]] = True
    donor_crop = np.where(donor_mask[..., None], np.uint8(250), np.uint8(0)).repeat(3, axis=2)
    laid = pasted_donor(donor_crop, donor_mask, newcomer, box)
    composite = paste(image, laid, mask, box, IntegrationSettings(feather=0))
    assert outside_difference(image, composite, newcomer.visible) == 0
    assert (composite[newcomer.visible] == 250).all()
