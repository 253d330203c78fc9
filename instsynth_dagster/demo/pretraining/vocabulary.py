"""The words of mini-clip: a byte-pair vocabulary in CLIP's form, learned from the ways a street can be described."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import transformers
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from instsynth_dagster.artifacts.files import write_atomically
from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.demo.city.palette import PAINTS

SIZE = 1200
_SPECIAL = ("<|startoftext|>", "<|endoftext|>")
_END = "</w>"
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

_THINGS = (
    "a man, a woman, a child, a person, a pedestrian, people, a male rider, a female rider, a cyclist, a motorcyclist",
    "a car, a sedan, a hatchback, a station wagon, an estate car, a sports car, a van, a taxi, a pickup truck, a lorry",
    "a city bus, a coach, a double-decker bus, a tram, a train, a locomotive, a scooter, a racing bicycle, a bike",
    "a jacket, a coat, a shirt, trousers, a dress, a helmet, a hat, a backpack, an umbrella, a bag",
)
_COLORS = "dark light bright pale grey brown orange pink purple beige navy turquoise metallic matte shiny dirty clean"
_CIRCUMSTANCES = (
    "seen from the front, from behind, from the side, from above, at an angle, facing left, facing right, close up",
    "in the distance, far away, nearby, partly hidden by a tree, behind another car, in front of a shop, half occluded",
    "at noon, at dawn, at dusk, at night, in the evening, in the morning, in bright sunlight, under an overcast sky",
    "in the rain, in fog, in snow, on a wet road, in the shade, under street lamps, with its headlights on, backlit",
    "parked at the kerb, waiting at a traffic light, crossing the street, turning, driving, walking, standing, riding",
    "on a sidewalk, at a crossing, on the tracks, at a bus stop, in a narrow street, on a wide avenue, in traffic",
    "a sharp detailed photo, a blurry photo, a picture, an image, a photograph, a drawing, low quality, high quality",
)


def descriptions() -> Iterator[str]:
    """Sentences with the words that captions and prompts of street instances are made of."""
    labels = [label.name for label in CITYSCAPES.labels]
    for color, thing in itertools.product((*PAINTS, *_COLORS.split()), (*labels, *_split(_THINGS))):
        yield f"a photo of a {color} {thing}"
        yield f"a photo of {thing} in a {color} jacket or coat on a street"
    for thing, circumstance in itertools.product((*labels, *_split(_THINGS)), _split(_CIRCUMSTANCES)):
        yield f"a picture of {thing}, {circumstance}"


def _split(lines: tuple[str, ...]) -> list[str]:
    return [phrase for line in lines for phrase in line.split(", ")]


def train_tokenizer(folder: Path, tokens: int, size: int = SIZE) -> transformers.CLIPTokenizer:
    """Learn the vocabulary and write it to `folder`; the same files every time.

    Every text can be encoded: each byte has a token, inside a word and at its end.

    Args:
        tokens: length to which texts are padded.
        size: number of tokens at most, special ones included.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=_END))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(alphabet) - len(_SPECIAL),
        initial_alphabet=alphabet,
        end_of_word_suffix=_END,
        show_progress=False,
    )
    tokenizer.train_from_iterator(descriptions(), trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    learned = ["".join(pair) for pair in merges]
    vocabulary = dict.fromkeys([*alphabet, *(letter + _END for letter in alphabet), *learned, *_SPECIAL])
    folder.mkdir(parents=True, exist_ok=True)
    ids = {token: number for number, token in enumerate(vocabulary)}
    write_atomically(folder / "vocab.json", json.dumps(ids, ensure_ascii=False).encode())
    text = "#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in merges)
    write_atomically(folder / "merges.txt", text.encode())
    return transformers.CLIPTokenizer.from_pretrained(folder, model_max_length=tokens)
