"""Progress in the log of a run."""

from __future__ import annotations

from resources.progress import _thinned, progress_bar, reporting_to


def test_lines_become_fewer_and_tell_the_time_left():
    said, now = [], [0.0]
    report = _thinned("training", said.append, lambda: now[0])
    for done in range(1, 601):
        now[0] += 1
        report(done, 600)
    assert said[0] == "training: 3 of 600, about 09:57 left"
    assert 10 < len(said) < 20
    assert said[-1].startswith("training: 5")


def test_a_training_tells_its_loss():
    said, now = [], [0.0]
    report = _thinned("training", said.append, lambda: now[0])
    for done in range(1, 11):
        now[0] += 1
        report(done, 600, 1 / done)
    assert said[0] == "training: 3 of 600, loss 0.3333, about 09:57 left"


def test_resumed_work_is_not_counted_as_done_quickly():
    said, now = [], [0.0]
    report = _thinned("training", said.append, lambda: now[0])
    for done in range(501, 511):
        now[0] += 1
        report(done, 600)
    assert said[0] == "training: 503 of 600, about 01:37 left"


def test_who_listens_hears_of_every_bar(monkeypatch):
    monkeypatch.setattr("resources.progress._FIRST", 0.0)
    said: list[str] = []
    with reporting_to(said.append), progress_bar("outer", 2) as outer, progress_bar("inner", 2) as inner:
        inner(1, 2)
        outer(1, 2)
    with progress_bar("alone", 2) as alone:
        alone(1, 2)
    assert [line.split(":")[0] for line in said] == ["inner", "outer"]
