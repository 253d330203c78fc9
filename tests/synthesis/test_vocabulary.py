"""Words that name a class."""

from __future__ import annotations

import pytest

from assets.prompt_bank import named
from instsynth_dagster.settings import PromptSettings
from instsynth_dagster.synthesis.prompt_agents import GrammarAgent
from instsynth_dagster.synthesis.vocabulary import names_class


@pytest.mark.parametrize(
    ("prompt", "class_name"),
    [
        ("a photo of a coach", "bus"),
        ("a pedestrian at dusk", "person"),
        ("a photo of a child", "person"),
        ("two motorbikes", "motorcycle"),
        ("a yellow tram", "train"),
        ("a cyclist in the rain", "rider"),
        ("a photo of a traffic cone", "traffic_cone"),
        ("no dog, a photo of a person", "person"),
        ("a dog without a leash beside a person", "person"),
    ],
)
def test_synonyms_name_a_class(prompt: str, class_name: str) -> None:
    assert names_class(prompt, class_name)


@pytest.mark.parametrize(
    ("prompt", "class_name"),
    [
        ("a photo of a dog, no person", "person"),
        ("a street without a red car", "car"),
        ("a carpet", "car"),
        ("a photo of a dog", "person"),
    ],
)
def test_what_is_absent_or_negated_names_nothing(prompt: str, class_name: str) -> None:
    assert not names_class(prompt, class_name)


def test_the_grammar_names_any_class() -> None:
    agent = GrammarAgent(0)
    for class_name in ("person", "bus", "traffic_cone", "polyp"):
        assert all(names_class(agent.propose(class_name, attempt), class_name) for attempt in range(50))


def test_a_template_without_the_class_only_warns() -> None:
    check = named("person", PromptSettings(templates=("a photo of a dog, no person",)))
    assert not check.passed
    assert not check.blocking
    assert "prompts.person.templates" in check.description
    assert named("bus", PromptSettings(templates=("a photo of a coach",))).passed
