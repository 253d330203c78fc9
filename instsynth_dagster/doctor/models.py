"""Every model that settings name: whether it exists, can be loaded, and fits its use."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instsynth_dagster.doctor.findings import Finding, fact, gigabytes, problem, problems, warning
from instsynth_dagster.doctor.required import RequiredModel, required_models
from instsynth_dagster.errors import UserError
from instsynth_dagster.models.conversion import converted_folder
from instsynth_dagster.models.digests import file_digest, verified
from instsynth_dagster.models.hub import Listing, cached_snapshot, card_licence, file_names, listing, remedy
from instsynth_dagster.models.references import CONVERT, HubReference, hub_reference, without_mark
from instsynth_dagster.models.weight_files import INDEX, TORCH, Weights, needed, weights_by_part
from instsynth_dagster.settings import GeneratorSettings, Settings
from instsynth_dagster.synthesis.generators.fit import Parts, mismatches


@dataclass(frozen=True)
class Model:
    """The result of examining a model, sizes in bytes of its files; 0 where they are unknown.

    `denoiser_bytes` is the size of a pipeline's UNet or transformer, `missing_bytes` are still to be downloaded,
    `converted_bytes` are to be written by a conversion.
    """

    required: RequiredModel
    weight_bytes: int
    denoiser_bytes: int
    missing_bytes: int
    converted_bytes: int
    findings: tuple[Finding, ...]


def examine_models(settings: Settings, ask_hub: bool) -> list[Model]:
    """One entry for each model.

    Args:
        ask_hub: whether a hub may be asked about files that the cache lacks; its small files are then downloaded.
    """
    return [_examined(required, settings, ask_hub) for required in required_models(settings)]


def examine_fid(settings: Settings) -> Iterator[Finding]:
    """Whether the Inception weights of FID and KID, which have no hub id, are at their path."""
    judge = settings.judge
    if judge is None or judge.fid_features != "inception" or judge.inception_weights:
        return
    from instsynth_dagster.evaluation.metrics.inception import published_file

    path = published_file()
    if path.exists():
        yield fact(f"judge.fid_features: {path}: {gigabytes(path.stat().st_size)}")
    else:
        yield warning(
            f"judge.fid_features: {path} is missing and is downloaded by image_quality (96 MB); where nothing can be "
            "downloaded put it there by hand, name it in judge.inception_weights, or set judge.fid_features: clip"
        )


def _examined(required: RequiredModel, settings: Settings, ask_hub: bool) -> Model:
    try:
        name, convert = without_mark(required.source)
        folder = verified(name)
        if folder is not None and folder.is_file():
            size = folder.stat().st_size
            return Model(required, size, 0, 0, 0, (fact(f"{required.key}: {name}: {gigabytes(size)}"),))
        if required.own:
            details = fact(f"{required.key}: {name}") if folder else problem(f"{required.key}: {name}: no such folder")
            return Model(required, 0, 0, 0, 0, (details,))
        if folder is not None:
            return _of_folder(required, folder, convert, settings)
        return _of_hub(required, hub_reference(required.source), settings, ask_hub)
    except UserError as error:
        return Model(required, 0, 0, 0, 0, (problem(_tried(required, str(error))),))


def _tried(required: RequiredModel, error: str) -> str:
    """The error line with which a run would end."""
    nothing = "nothing could be loaded; tried " if required.pipeline else ""
    return f"{required.key}: {nothing}{error}"


def _of_folder(required: RequiredModel, folder: Path, convert: bool, settings: Settings) -> Model:
    sizes = {name: (folder / name).stat().st_size for name in file_names(folder)}
    licence = card_licence(folder / "README.md")
    details = [str(folder), f"licence {licence}" if licence else "no licence named"]
    found, size, to_convert = _weights(required, sizes, folder, convert)
    found += _fits(required, folder, settings)
    digests = {name: file_digest(folder / name) for name in required.weights if name in sizes}
    found += _of_other_weights(required, sizes, digests)
    return Model(
        required,
        size,
        _denoiser(required, sizes),
        0,
        to_convert,
        (fact(_line(required, sizes, [*details, gigabytes(size)])), *found),
    )


def _of_hub(required: RequiredModel, reference: HubReference, settings: Settings, ask_hub: bool) -> Model:
    cached = cached_snapshot(reference)
    if not ask_hub and cached is None:
        text = f"{required.key}: {reference}: not in the cache of the hub, so not checked; make doctor asks the hub"
        return Model(required, 0, 0, 0, 0, (warning(text),))
    known = listing(reference) if ask_hub else _of_cache_only(cached)
    found, size, to_convert = _weights(required, known.sizes, cached, reference.convert)
    folder = _small_files(reference, required) if ask_hub and known.reached else cached
    if folder is not None:
        found += _fits(required, folder, settings)
    wants = needed(known.sizes, required.variant, with_weights=required.with_weights)
    missing = sum(known.sizes[name] for name in wants if known.reached and not _is_here(cached, name))
    details = [str(reference), *_about(known), f"{gigabytes(size)}, {gigabytes(missing)} of it to download"]
    found += _unpinned(required, reference, known)
    found += _of_other_weights(required, known.sizes if known.reached else None, known.digests)
    if ask_hub and not known.reached:
        lacking = f"; {remedy(reference)}" if problems(found) else ""
        found.append(warning(f"{required.key}: {reference}: looked at in the cache only: {known.refusal}{lacking}"))
    return Model(
        required,
        size,
        _denoiser(required, known.sizes),
        missing,
        to_convert,
        (fact(_line(required, known.sizes, details)), *found),
    )


def _of_cache_only(folder: Path | None) -> Listing:
    assert folder is not None
    sizes = {name: (folder / name).stat().st_size for name in file_names(folder)}
    return Listing(folder.name, folder, sizes, {}, card_licence(folder / "README.md"), None, reached=False)


def _small_files(reference: HubReference, required: RequiredModel) -> Path | None:
    """Configurations and tokenizers, downloaded; None where the hub refuses, which is reported when weights are
    loaded.
    """
    from instsynth_dagster.models.hub import snapshot

    try:
        return snapshot(reference, required.variant, None, with_weights=False)
    except UserError:
        return None


def _is_here(folder: Path | None, name: str) -> bool:
    return folder is not None and (folder / name).is_file()


def _about(known: Listing) -> Iterator[str]:
    yield f"licence {known.licence}" if known.licence else "licence not known"
    if known.gated is not None:
        yield "gated" if known.gated else "not gated"


def _line(required: RequiredModel, sizes: Collection[str], details: list[str]) -> str:
    parts = weights_by_part(sizes, required.variant)
    kinds = {f"{part.kind}{f' {part.variant}' if part.variant else ''}" for part in parts.values() if part}
    what = " and ".join(sorted(kinds)) if required.with_weights else "tokenizer only"
    return f"{required.key}: {details[0]}: {', '.join([what or 'no weights', *details[1:]])}"


def _unpinned(required: RequiredModel, reference: HubReference, known: Listing) -> list[Finding]:
    if reference.pinned:
        return []
    now = f"{reference.revision} is {known.commit} now" if known.commit else f"it follows {reference.revision}"
    return [warning(f"{required.key}: {reference}: unpinned: {now}; write {reference.name}@<commit> to keep to it")]


def _of_other_weights(
    required: RequiredModel, names: Collection[str] | None, digests: Mapping[str, str]
) -> list[Finding]:
    """Files that `weights` names and that are missing or have another digest; `names` is None where the files are
    unknown.
    """
    other = [name for name, digest in required.weights.items() if digests.get(name, digest) != digest]
    lost = [name for name in required.weights if names is not None and name not in names]
    text = "holds other weights: {} is not the file that weights names"
    return [problem(_tried(required, f"{required.source}: {text.format(name)}")) for name in [*other, *lost]]


def _weights(
    required: RequiredModel, sizes: dict[str, int], folder: Path | None, convert: bool
) -> tuple[list[Finding], int, int]:
    """Problems, bytes of the weights that would be loaded, and bytes that a conversion would write."""
    if not required.with_weights:
        return [], 0, 0
    parts = weights_by_part(sizes, required.variant)
    found = [
        problem(_tried(required, f"{required.source}: no weights in {name or 'it'}"))
        for name, weights in parts.items()
        if weights is None
    ]
    if not parts and folder is not None:
        found.append(problem(_tried(required, f"{required.source}: holds no weights that are known here")))
    taken: list[Weights] = [weights for weights in parts.values() if weights]
    torch_files = [name for weights in taken if weights.kind == TORCH for name in weights.files]
    to_convert = sum(sizes[name] for name in torch_files)
    if torch_files and folder is not None and all(_is_here(folder, name) for name in torch_files):
        to_convert = 0 if converted_folder(folder, torch_files).is_dir() else to_convert
    if torch_files and to_convert and not convert:
        text = f"{required.source}: its weights are torch files ({torch_files[0]}); write {required.source}{CONVERT}"
        found.append(problem(_tried(required, text)))
    if required.variant and taken and all(weights.variant is None for weights in taken):
        found.append(problem(_tried(required, f"{required.source}: has no variant {required.variant}")))
    return found, sum(sizes[name] for weights in taken for name in weights.files), to_convert


def _denoiser(required: RequiredModel, sizes: dict[str, int]) -> int:
    parts = weights_by_part(sizes, required.variant)
    found = parts.get("unet") or parts.get("transformer")
    return sum(sizes[name] for name in found.files) if found else 0


def _fits(required: RequiredModel, folder: Path, settings: Settings) -> list[Finding]:
    """Whether configurations and tokenizers fit a generator, without loading weights."""
    if not required.pipeline:
        return []
    if not (folder / INDEX).is_file():
        return [problem(_tried(required, f"{folder}: no {INDEX} in it, so it is no pipeline of diffusers"))]
    try:
        index = json.loads((folder / INDEX).read_text())
        parts = {name: _config(folder / name) for name in index if (folder / name / "config.json").is_file()}
    except (OSError, ValueError) as error:
        return [problem(_tried(required, f"{folder}: {' '.join(str(error).split())}"))]
    name = required.key.split(".")[1]
    generator = settings.generators[name]
    beside = _controlnet(generator)
    given = Parts(parts.get("unet") or parts.get("transformer") or {}, parts.get("vae") or {}, beside)
    found = [problem(line) for line in mismatches(name, generator, given)]
    for part in ("tokenizer", "tokenizer_2", "tokenizer_3"):
        encoder = parts.get(part.replace("tokenizer", "text_encoder")) or {}
        words = _words(folder / part)
        if words and encoder.get("vocab_size") and words > encoder["vocab_size"]:
            text = f"its {part} knows {words} words, its text encoder {encoder['vocab_size']}"
            found.append(problem(f"{required.key}: {required.source}: {text}"))
    return found


def _controlnet(generator: GeneratorSettings) -> dict[str, Any]:
    """The configuration of a generator's ControlNet, as far as it is on this machine; whether it is complete is checked
    as for any model.
    """
    source = getattr(generator, "controlnet", None)
    try:
        folder = (verified(without_mark(source)[0]) or cached_snapshot(hub_reference(source))) if source else None
        return _config(folder) if folder else {}
    except (UserError, OSError, ValueError):
        return {}


def _config(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "config.json").read_text())
    return found if isinstance(found, dict) else {}


def _words(folder: Path) -> int:
    """Entries of a tokenizer's vocabulary, where it is stored in a file that lists them."""
    try:
        if (folder / "vocab.json").is_file():
            return len(json.loads((folder / "vocab.json").read_text()))
        vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    return len(vocabulary)
