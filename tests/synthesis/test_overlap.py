"""Work ahead in a thread."""

from __future__ import annotations

import threading

import pytest

from instsynth_dagster.synthesis.overlap import map_ahead


def test_results_come_in_order_and_once():
    assert list(map_ahead(lambda x: x * x, range(7))) == [x * x for x in range(7)]
    assert list(map_ahead(str, [])) == []


def test_the_next_item_is_worked_on_while_this_one_is_used():
    """The second item has begun before the first is given back; the third waits to be asked for."""
    begun = [threading.Event() for _ in range(3)]

    def work(index):
        begun[index].set()
        return index

    results = map_ahead(work, range(3))
    assert next(results) == 0
    assert begun[1].wait(60)
    assert not begun[2].is_set()
    assert list(results) == [1, 2]


def test_a_failure_comes_where_its_result_would_have():
    results = map_ahead(lambda x: 1 // x, [1, 0, 1])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
