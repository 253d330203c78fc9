import numpy as np
import pandas as pd
import pytest

from instsynth_dagster.synthesis.places import LEAST_INSTANCES, StandingPlaces, ground_below, grounds, learn_places

ROAD, WALK = 7, 8


def index(feet, heights, **columns):
    feet, heights = np.asarray(feet), np.asarray(heights)
    table = pd.DataFrame({"y1": feet - heights, "y2": feet, "is_group": False, "touches_border": False})
    return table.assign(**{"ground": ROAD} | columns)


def test_height_follows_the_foot_and_outliers_do_not_count():
    feet = np.arange(110, 210, 5)
    heights = (feet - 100) // 2
    heights[3] = 90  # half hidden, fallen, mislabelled
    places = learn_places(index(feet, heights))
    assert isinstance(places, StandingPlaces)
    assert places.slope == pytest.approx(0.5, abs=0.03)
    assert places.expected_height(200) == pytest.approx(50, abs=2)
    assert places.expected_height(20) == 1
    assert np.median(np.abs(places.residuals)) < 0.05


def test_rare_grounds_groups_and_cut_instances_teach_nothing():
    feet = np.full(42, 120)
    table = index(feet, feet // 3, is_group=[True] + [False] * 41, touches_border=[False, True] + [False] * 40)
    places = learn_places(table.assign(ground=[23, 23, *[ROAD] * 37, *[WALK] * 2, -1]))
    assert isinstance(places, StandingPlaces)
    assert places.grounds == {ROAD, WALK}
    assert len(places.feet) == 39
    rare = learn_places(table.assign(ground=[23, 23, *[ROAD] * 38, WALK, -1]))
    assert rare.grounds == {ROAD}


def test_too_few_instances_give_a_reason():
    few = index(np.full(LEAST_INSTANCES - 1, 120), 30)
    assert learn_places(few) == "only 7 whole instances to learn places from, 8 are needed"
    assert "only 0 whole" in learn_places(few.iloc[:0])


def test_the_ground_is_what_lies_below_the_feet():
    labels = np.full((40, 60), 11)
    labels[30:] = WALK
    labels[30:, 20:] = ROAD
    mask = np.zeros((10, 10), bool)
    mask[:, 8:] = True  # stands on one leg
    assert ground_below(labels, (12, 20, 22, 30), mask) == ROAD
    assert ground_below(labels, (5, 20, 15, 30), mask) == WALK
    assert ground_below(labels, (5, 30, 15, 40), mask) == -1
    ids = labels.copy()
    ids[20:30, 20:22], ids[5:10, 50:55] = 26000, 24001
    table = pd.DataFrame({"value": [24001, 26000], "x1": [50, 20], "y1": [5, 20], "x2": [55, 22], "y2": [10, 30]})
    assert grounds(ids, labels, table).tolist() == [11, ROAD]
