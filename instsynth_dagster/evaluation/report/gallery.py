"""Pictures for display: instances drawn into an image, contact sheets, and images as text for HTML and Markdown."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from instsynth_dagster.data.images import resize_image
from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.data.masks import decode_rle

Color = tuple[int, int, int]
PAPER, INK = (247, 247, 245), (38, 42, 48)
MARKDOWN_LIMIT = 56_000
"""Most characters of an image in Markdown: more slow the Dagster UI down."""
_GOLDEN = 0.618034
"""Golden ratio: steps on the colour wheel that stay apart from one another."""


def overlay_instances(
    image: np.ndarray, ids: np.ndarray, labels: LabelTable, named: bool = True, letters: int | None = None
) -> np.ndarray:
    """Draw the instances and groups of an id map into its image.

    Args:
        image: uint8 (H, W, 3) RGB.
        ids: integer (H, W) id map.
        labels: label table of the data set.
        named: whether to write class names, which are illegible where the picture is displayed small.
        letters: height of the letters in pixels; None for one that suits an image displayed at about its own size.

    Returns:
        uint8 (H, W, 3): every instance tinted and outlined in its class colour, the larger ones named.
    """
    masks, names, colors = [], [], []
    for value in np.unique(ids).tolist():
        label = labels.label_of(value)
        if label.has_instances:
            masks.append(ids == value)
            name = label.name if value >= labels.factor else f"{label.name} group"
            names.append(name if named else "")
            colors.append(display_color(label.color))
    return overlay_masks(image, masks, names, colors, letters)


def overlay_numbers(image: np.ndarray, ids: np.ndarray, labels: LabelTable) -> np.ndarray:
    """Every instance of an id map (H, W) in a colour of its own, independent of its class, on the image made pale."""
    canvas = (0.45 * image + 0.55 * 255).astype(np.uint8)
    for number, value in enumerate(np.unique(ids[labels.is_instance(ids)]).tolist()):
        own = ids == value
        hue = int(180 * (number * _GOLDEN % 1))
        color = cv2.cvtColor(np.array([[[hue, 190, 215]]], np.uint8), cv2.COLOR_HSV2RGB)[0, 0]
        canvas[own] = (0.35 * image[own] + 0.65 * color).astype(np.uint8)
        rim = own & ~cv2.erode(own.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        canvas[rim] = (0.6 * color).astype(np.uint8)
    return canvas


def overlay_predictions(
    image: np.ndarray,
    predictions: pd.DataFrame,
    labels: LabelTable,
    min_score: float = 0.5,
    letters: int | None = None,
) -> np.ndarray:
    """Draw predictions (columns class_name, score, mask_counts, at the size of the image) of at least `min_score`."""
    masks, names, colors = [], [], []
    if len(predictions):
        shown = predictions[predictions["score"] >= min_score].sort_values("score", kind="stable")
        for row in shown.to_dict("records"):
            masks.append(decode_rle({"size": list(image.shape[:2]), "counts": row["mask_counts"]}))
            names.append(f"{row['class_name']} {row['score']:.2f}")
            colors.append(display_color(labels[row["class_name"]].color))
    return overlay_masks(image, masks, names, colors, letters)


def overlay_masks(
    image: np.ndarray,
    masks: Sequence[np.ndarray],
    names: Sequence[str],
    colors: Sequence[Color],
    letters: int | None = None,
) -> np.ndarray:
    """Tint and outline bool (H, W) masks in an image, large ones first, and write names ("" for none) on large ones.

    Args:
        letters: height of the letters in pixels.
    """
    canvas = image.copy()
    areas = [int(mask.sum()) for mask in masks]
    order = [index for index in np.argsort(areas, kind="stable")[::-1] if areas[index]]
    thickness = max(1, round(image.shape[0] / 420))
    for index in order:
        color = np.array(colors[index], dtype=np.float32)
        canvas[masks[index]] = (0.68 * canvas[masks[index]] + 0.32 * color).astype(np.uint8)
        outline, _ = cv2.findContours(masks[index].astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, outline, -1, colors[index], thickness, cv2.LINE_AA)
    smallest = 0.002 * image.shape[0] * image.shape[1]
    named = [index for index in order if names[index] and areas[index] >= smallest]
    size = letters or round(5 + image.shape[0] / 48)
    return _write_names(canvas, [(masks[index], names[index], colors[index]) for index in named], size)


def _write_names(canvas: np.ndarray, marks: Sequence[tuple[np.ndarray, str, Color]], size: int) -> np.ndarray:
    """Name tags at the top left corner of each mask; a tag that would overlap an earlier one is left out."""
    height, width = canvas.shape[:2]
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    taken: list[tuple[float, float, float, float]] = []
    for mask, name, color in marks:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        text_width = draw.textlength(name, font=font(size))
        tag_width, tag_height = text_width + 0.7 * size, 1.35 * size
        x = float(np.clip(columns[0], 0, max(0, width - tag_width)))
        y = float(np.clip(rows[0] - tag_height, 0, height - tag_height))
        tag = (x, y, x + tag_width, y + tag_height)
        if any(_overlap(tag, other) for other in taken):
            continue
        taken.append(tag)
        draw.rounded_rectangle(tag, radius=size * 0.3, fill=color)
        bright = np.dot(color, (0.299, 0.587, 0.114)) > 140
        draw.text(
            (x + 0.35 * size, y + tag_height / 2), name, (20, 20, 24) if bright else "white", font(size), anchor="lm"
        )
    return np.array(picture)


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@lru_cache
def display_color(of_table: Color) -> Color:
    """A label's colour, brightened until it is visible on a photograph (those of Cityscapes are very dark)."""
    color = np.array(of_table, dtype=np.float64)
    bright = color * (150 + 0.41 * color.max()) / max(color.max(), 1)
    red, green, blue = (round(float(value)) for value in 0.8 * bright + 0.2 * 255)
    return red, green, blue


def contact_sheet(images: Sequence[np.ndarray], columns: int, captions: Sequence[str] | None = None) -> np.ndarray:
    """Images side by side, in rows of `columns`, with captions below.

    Args:
        images: uint8 (h, w, 3) RGB each; centred in cells as wide as the widest image and, in each row, as tall as the
            tallest.
        captions: one for each image, broken into at most two lines.

    Returns:
        uint8 (H, W, 3); a blank picture where there are no images.
    """
    columns = max(1, min(columns, len(images)))
    width = max((image.shape[1] for image in images), default=64)
    gap, size = max(6, width // 32), round(min(22, max(13, width / 24)))
    lines = [_caption_lines(caption, width, size) for caption in captions or [""] * len(images)]
    rows = [range(first, min(first + columns, len(images))) for first in range(0, len(images), columns)]
    heights = [max(images[index].shape[0] for index in row) for row in rows]
    below = [round(1.3 * size * max(len(lines[index]) for index in row)) for row in rows]
    bottom = gap + sum(heights) + sum(below) + gap * len(rows)
    picture = Image.new("RGB", (columns * (width + gap) + gap, max(bottom, 64)), PAPER)
    draw, y = ImageDraw.Draw(picture), gap
    for row, height, text_height in zip(rows, heights, below, strict=True):
        for column, index in enumerate(row):
            x = gap + column * (width + gap)
            inset = (width - images[index].shape[1]) // 2, (height - images[index].shape[0]) // 2
            picture.paste(Image.fromarray(images[index]), (x + inset[0], y + inset[1]))
            for number, text in enumerate(lines[index]):
                draw.text((x, y + height + size * (0.35 + 1.3 * number)), text, INK, font(size))
        y += height + text_height + gap
    return np.array(picture)


def _caption_lines(text: str, width: int, size: int, most: int = 2) -> list[str]:
    characters = max(4, int(width / (0.58 * size)))
    return textwrap.wrap(text, characters, max_lines=most, placeholder="\N{HORIZONTAL ELLIPSIS}")


@lru_cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which is part of matplotlib."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)


def thumbnail_markdown(image: np.ndarray, width: int, text: str = "preview") -> str:
    """A Markdown image of at most `width` pixels with embedded data, below MARKDOWN_LIMIT characters.

    Quality is reduced first, then size, until it fits.
    """
    while True:
        shown = shrink(image, width)
        for quality in (85, 70, 55):
            uri = data_uri(shown, quality)
            if len(uri) < MARKDOWN_LIMIT:
                return f"![{text}]({uri})"
        width = round(0.8 * shown.shape[1])


def data_uri(image: np.ndarray, quality: int = 84) -> str:
    """An image as a WebP data URI; uint8 (H, W, 3) RGB or (H, W) grey."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", quality=quality, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def shrink(image: np.ndarray, width: int) -> np.ndarray:
    """The image at most `width` pixels wide, with its proportions; never enlarged."""
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    return image if image.shape[1] <= width else resize_image(image, (width, height))
