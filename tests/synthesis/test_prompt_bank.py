import hashlib

import numpy as np
import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.errors import CheckpointError
from instsynth_dagster.settings import GeneratorSettings, PromptBankSettings, PromptSettings
from instsynth_dagster.synthesis.prompt_agents import GrammarAgent, LanguageModelAgent
from instsynth_dagster.synthesis.prompts import calibrate, diverse_bank
from instsynth_dagster.synthesis.text_encoder import TextEncoder
from instsynth_dagster.synthesis.vocabulary import names_class
from tests.tiny_pipelines import save_tiny_inpainting, save_tiny_xl

TEMPLATES = PromptSettings(templates=("a photo of a {color} car",), colors=("red", "blue"))


def embed_words(texts):
    """Fake encoder: a bag of hashed words."""
    vectors = np.zeros((len(texts), 64), np.float32)
    for row, text in enumerate(texts):
        for word in text.replace(",", "").split():
            vectors[row, hashlib.sha256(word.encode()).digest()[0] % 64] += 1
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Parrot:
    """Proposes a fixed list over and over."""

    def __init__(self, prompts):
        self._prompts = prompts

    def propose(self, class_name, attempt, accepted):
        return self._prompts[attempt % len(self._prompts)]


@pytest.mark.slow
@settings(max_examples=20)
@given(st.integers(0, 2**32), st.floats(0.2, 0.9), st.integers(1, 30))
def test_every_pair_is_below_lambda_and_the_bank_fed_back_is_refused(seed, quantile, size):
    recipe = PromptBankSettings(encoder="g", size=size, quantile=quantile, max_rejections=60)
    bank = diverse_bank("car", TEMPLATES, recipe, GrammarAgent(seed), embed_words, seed)
    assert 1 <= len(bank) <= size
    threshold = bank["threshold"].iloc[0]
    assert threshold == calibrate("car", embed_words, quantile, seed)
    vectors = np.array(bank["embedding"].tolist())
    np.testing.assert_allclose(vectors, embed_words(bank["prompt"].tolist()), atol=1e-6)
    assert (vectors @ vectors.T)[np.triu_indices(len(bank), 1)].max(initial=-1) < threshold + 1e-6
    assert all(names_class(prompt, "car") for prompt in bank["prompt"])
    again = diverse_bank(
        "car", TEMPLATES, recipe.model_copy(update={"size": 1000}), Parrot(bank["prompt"].tolist()), embed_words, seed
    )
    assert set(again["prompt"]) <= set(bank["prompt"])


def test_templates_come_first_and_a_prompt_without_the_class_never_enters():
    recipe = PromptBankSettings(encoder="g", size=5, quantile=0.99, max_rejections=10)
    bank = diverse_bank("car", TEMPLATES, recipe, Parrot(["a photo of a dog, far away at night"]), embed_words, 0)
    assert bank["prompt"].iloc[0] == "a photo of a red car"
    assert np.isnan(bank["similarity"].iloc[0])
    assert not bank["prompt"].str.contains("dog").any()


@pytest.mark.parametrize("class_name", CITYSCAPES.classes)
def test_the_grammar_always_names_its_class_and_repeats_itself_for_a_seed(class_name):
    first = [GrammarAgent(3).propose(class_name, attempt) for attempt in range(200)]
    assert first == [GrammarAgent(3).propose(class_name, attempt) for attempt in range(200)]
    assert all(names_class(prompt, class_name) for prompt in first)
    assert len(set(first)) > 150


def test_encoders_of_a_checkpoint_are_read_and_joined(tmp_path):
    one = TextEncoder("g", _settings(save_tiny_inpainting(tmp_path / "sd")))
    two = TextEncoder("g", _settings(save_tiny_xl(tmp_path / "xl")))
    texts = ["a red car", "a blue bus in fog", "a red car"]
    for encoder, width in ((one, 16), (two, 32)):
        vectors = encoder(texts)
        assert vectors.shape == (3, width)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
        np.testing.assert_array_equal(vectors[0], vectors[2])
    with pytest.raises(CheckpointError, match=r"prompt_bank\.encoder"):
        TextEncoder("g", _settings(tmp_path))


def test_a_language_model_can_be_the_agent(tmp_path):
    model = save_tiny_inpainting(tmp_path)
    transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=190, n_embd=16, n_layer=1, n_head=2, n_positions=2048)
    ).save_pretrained(tmp_path / "llm")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "llm" / name).write_bytes((model / "tokenizer" / name).read_bytes())
    agent = LanguageModelAgent(str(tmp_path / "llm"), seed=0)
    first = agent.propose("car", 0, ["a photo of a red car"])
    assert first.startswith("a photo of a")
    assert first == agent.propose("car", 0, ["a photo of a red car"])
    assert len({agent.propose("car", attempt, []) for attempt in range(3)}) > 1


def _settings(model):
    return GeneratorSettings.model_validate({"kind": "diffinpainting", "model": str(model)})
