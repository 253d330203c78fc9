import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instsynth_dagster.segmenters.shared.sampling import DrawSchedule, repeat_factors


def test_synthetic_fraction_of_draws_is_exact_and_even():
    flags = [False] * 3 + [True] * 50
    schedule = DrawSchedule(flags, 0.25, seed=1)
    synthetic = np.array([flags[schedule[draw]] for draw in range(400)])
    assert synthetic.sum() == 100
    assert (synthetic.reshape(-1, 8).sum(1) == 2).all()


@given(real=st.integers(0, 9), synthetic=st.integers(0, 9), fraction=st.floats(0.05, 0.95), seed=st.integers(0, 99))
def test_every_sample_is_seen_once_before_any_is_seen_twice(real, synthetic, fraction, seed):
    flags = [False] * real + [True] * synthetic
    if not flags:
        return
    schedule = DrawSchedule(flags, fraction, seed)
    drawn = [schedule[draw] for draw in range(120)]
    for members in ({i for i, f in enumerate(flags) if f == kind} for kind in (False, True)):
        stream = [index for index in drawn if index in members]
        if members:
            epochs = [stream[i : i + len(members)] for i in range(0, len(stream) - len(members) + 1, len(members))]
            assert all(set(epoch) == members for epoch in epochs)


def test_draws_depend_on_seed_and_number_only():
    flags = [False, True] * 20
    forwards = [DrawSchedule(flags, 0.5, 3)[draw] for draw in range(60)]
    schedule = DrawSchedule(flags, 0.5, 3)
    backwards = [schedule[draw] for draw in reversed(range(60))][::-1]
    assert forwards == backwards
    assert forwards != [DrawSchedule(flags, 0.5, 4)[draw] for draw in range(60)]


def test_nothing_to_draw_from_is_refused():
    with pytest.raises(ValueError, match="no samples"):
        DrawSchedule([], 0.5, 0)


@pytest.mark.slow
@given(factors=st.lists(st.floats(1.0, 4.0), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_repeated_samples_come_as_often_as_their_factor_says(factors, seed):
    factors = np.array(factors)
    schedule = DrawSchedule([False] * len(factors), 0.5, seed, factors)
    length, epochs = round(factors.sum()), 60
    drawn = np.bincount([schedule[draw] for draw in range(epochs * length)], minlength=len(factors)) / epochs
    assert drawn == pytest.approx(factors * length / factors.sum(), abs=0.35)
    assert drawn.min() >= np.floor(factors.min() * length / factors.sum() - 1e-9)


def test_repeat_factors_are_those_of_lvis():
    classes_in = np.zeros((100, 2), dtype=bool)
    classes_in[:, 0] = True
    classes_in[0, 1] = True
    factors = repeat_factors(classes_in, 0.04)
    assert factors[0] == pytest.approx(2.0)
    assert (factors[1:] == 1).all()
    assert repeat_factors(np.zeros((3, 2), dtype=bool), 0.5).tolist() == [1, 1, 1]
