"""One small folder for every loader that a params file can point at a checkpoint, and how it is loaded."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from torch import nn

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.models.clip import Clip
from instsynth_dagster.models.digests import weights_digest
from instsynth_dagster.models.unet_taps import load_parts
from instsynth_dagster.refinement.refiners.sam import Sam
from instsynth_dagster.segmenters.contract import get_segmenter
from instsynth_dagster.segmenters.maskdiff.config import MaskDiffConfig
from instsynth_dagster.segmenters.maskdiff.denoiser import MaskDenoiser
from instsynth_dagster.segmenters.maskdiff.segmenter import restore as restore_maskdiff
from instsynth_dagster.segmenters.shared.backbones import load_backbone
from instsynth_dagster.segmenters.siseg.config import SISegConfig
from instsynth_dagster.segmenters.siseg.network import SISeg
from instsynth_dagster.settings import BoundarySettings, FeatureSettings, GeneratorSettings
from instsynth_dagster.synthesis.generators import load_generator
from instsynth_dagster.synthesis.prompt_agents import LanguageModelAgent
from instsynth_dagster.synthesis.text_encoder import TextEncoder
from tests.refinement.test_refiners import save_tiny_sam
from tests.segmenters.test_contract import TINY
from tests.segmenters.toy import TINY_RESNET, tiny
from tests.tiny_pipelines import letters_tokenizer, save_tiny_clip, save_tiny_gligen, save_tiny_inpainting

CLASSES = ("person", "car")
BUILT = ("mask2former", "oneformer", "fastinst", "generative", "eomt", "rf_detr")


@dataclass(frozen=True)
class Loader:
    """`save` fills a folder below the one it is given and returns it; `load` gives the digest of what it loaded;
    `key` stands in messages that do not name the folder."""

    save: Callable[[Path], Path]
    load: Callable[[str], str]
    key: str = "\0"


def digest(*modules: Any) -> str:
    return weights_digest({str(number): module for number, module in enumerate(modules)})


def _built(kind: str) -> Loader:
    recipe, segmenter = tiny(**({"kind": kind} | TINY[kind])), get_segmenter(kind)

    def save(folder: Path) -> Path:
        torch.manual_seed(0)
        segmenter.save(segmenter.build(recipe, CLASSES, labels=CITYSCAPES).eval(), CLASSES, folder / "model")
        return folder / "model"

    return Loader(save, lambda source: digest(segmenter.load(Path(source), recipe, labels=CITYSCAPES).model))


def _save_siseg(folder: Path) -> Path:
    config = SISegConfig(classes=CLASSES, widths=(4, 8))
    (folder / "model").mkdir()
    torch.manual_seed(0)
    save_file(SISeg(config).state_dict(), folder / "model" / "model.safetensors")
    (folder / "model" / "config.json").write_text(config.model_dump_json(exclude_unset=True))
    return folder / "model"


def _save_maskdiff(folder: Path) -> Path:
    config = MaskDiffConfig(classes=CLASSES, region=8, blocks=(4, 8), layers=1, shots=2)
    (folder / "model").mkdir()
    torch.manual_seed(0)
    save_file(MaskDenoiser(config).state_dict(), folder / "model" / "model.safetensors")
    save_file({"shots": torch.zeros(2, 2, 4, 8, 8)}, folder / "model" / "shots.safetensors")
    (folder / "model" / "config.json").write_text(config.model_dump_json(exclude_unset=True))
    return folder / "model"


def _save_resnet(folder: Path) -> Path:
    torch.manual_seed(0)
    shape = {key: value for key, value in TINY_RESNET.items() if key not in ("model_type", "out_features")}
    transformers.ResNetForImageClassification(transformers.ResNetConfig(**shape, num_labels=2)).save_pretrained(
        folder / "model"
    )
    return folder / "model"


def _save_gpt(folder: Path) -> Path:
    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=190, n_embd=8, n_layer=1, n_head=2, n_positions=64)
    ).save_pretrained(folder / "model")
    letters_tokenizer(folder).save_pretrained(folder / "model")
    return folder / "model"


def _generator(kind: str) -> Callable[[str], str]:
    def load(source: str) -> str:
        settings = GeneratorSettings.model_validate({"kind": kind, "model": source, "size": 32})
        return load_generator("g", settings, "cpu").weights_digest

    return load


def _text_encoder(source: str) -> str:
    encoder = TextEncoder("g", GeneratorSettings.model_validate({"kind": "diffinpainting", "model": source}))
    return digest(*(module for module, _ in encoder._encoders))


def _diffusion(source: str) -> str:
    parts = load_parts(source, "a car", key="refinement.features.model")
    return digest(parts.vae, parts.unet)


def _features(kind: str) -> Callable[[str], str]:
    from instsynth_dagster.refinement.features import build_extractor

    def load(source: str) -> str:
        extract = build_extractor(FeatureSettings(kind=kind, model=source, stages=(0,)), "cpu")
        held = [cell.cell_contents for cell in inspect.unwrap(extract).__closure__ or ()]
        return digest(*(module for module in held if isinstance(module, nn.Module)))

    return load


LOADERS = {
    "clip": Loader(save_tiny_clip, lambda source: digest(Clip(source)._clip), "judge.clip"),
    "diffinpainting": Loader(save_tiny_inpainting, _generator("diffinpainting"), "generators.g.model"),
    "gligen": Loader(save_tiny_gligen, _generator("gligen"), "generators.g.model"),
    "text_encoder": Loader(save_tiny_inpainting, _text_encoder, "generators.g.model"),
    "diffusion_features": Loader(save_tiny_inpainting, _diffusion, "refinement.features.model"),
    "clip_features": Loader(save_tiny_clip, _features("clip"), "refinement.features.model"),
    "backbone": Loader(_save_resnet, lambda source: digest(load_backbone(source))),
    "sam": Loader(
        lambda folder: save_tiny_sam(folder / "model"),
        lambda source: digest(Sam(BoundarySettings(kind="sam", model=source), "cpu")._model),
        "refinement.boundary.model",
    ),
    "agent": Loader(_save_gpt, lambda source: digest(LanguageModelAgent(source, 0)._model), "prompt_bank.agent"),
    "siseg": Loader(
        _save_siseg,
        lambda source: digest(get_segmenter("siseg").load(Path(source), tiny(kind="siseg"), labels=CITYSCAPES).model),
    ),
    "maskdiff": Loader(_save_maskdiff, lambda source: digest(restore_maskdiff(Path(source))[0])),
    **{kind: _built(kind) for kind in BUILT},
}
