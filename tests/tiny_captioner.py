"""A real captioning model with random weights, small enough to run in a blink."""

from pathlib import Path

import torch
import transformers

WORDS = ("a", "red", "blue", "green", "dark", "small", "big", "car", "bus", "man", "street", "on", "in", "the")
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]"]


def save_tiny_captioner(folder: Path) -> Path:
    """BLIP as a `from_pretrained` folder; its captions are words of `WORDS` in an order that means nothing."""
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = transformers.BertTokenizerFast(vocab=vocabulary)
    text = {"vocab_size": len(vocabulary), "bos_token_id": 5, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BlipConfig(
        text_config=text | small | {"encoder_hidden_size": 16, "max_position_embeddings": 32},
        vision_config=small | {"image_size": 32, "patch_size": 16},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.BlipForConditionalGeneration(config)
        bias = model.text_decoder.cls.predictions.bias
        torch.nn.init.normal_(model.text_decoder.cls.predictions.decoder.weight)
        with torch.no_grad():
            bias[: len(SPECIAL)] = -100  # words only
    model.save_pretrained(folder)
    side = {"height": 32, "width": 32}
    transformers.BlipProcessor(transformers.BlipImageProcessor(size=side), tokenizer).save_pretrained(folder)
    return folder
