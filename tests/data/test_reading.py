"""Image files as people have them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from instsynth_dagster.data.reading import header, is_image_name, read_image
from instsynth_dagster.errors import DatasetError
from tests.data.coco_trees import picture

SIZE = (64, 48)


def turned(path: Path, orientation: int, **options) -> Path:
    """The same scene stored another way: with the tag, the pixels are those that give `picture` when they are shown."""
    shown = Image.open(picture(path.with_name("scene.png"), SIZE))
    back = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown.transpose(back).save(path, exif=exif, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.JPG", "a b.webp", "ä.tif", "a.jpeg", "a.BMP"])
def test_formats_and_suffixes_of_any_case(tmp_path: Path, name: str) -> None:
    kind = {"jpg": "JPEG", "jpeg": "JPEG", "tif": "TIFF"}.get(name.rsplit(".", 1)[1].lower(), name.rsplit(".", 1)[1])
    path = picture(tmp_path / name, SIZE, format=kind.upper())
    image = read_image(path, SIZE)
    assert (image.shape, image.dtype) == ((48, 64, 3), np.uint8)
    assert is_image_name(name)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "CMYK", "YCbCr"])
def test_modes_of_eight_bits_become_rgb(tmp_path: Path, mode: str) -> None:
    source = Image.open(picture(tmp_path / "scene.png", SIZE)).convert("RGB")
    path = tmp_path / ("a.tif" if mode in ("CMYK", "YCbCr") else "a.png")
    source.convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (48, 64, 3)
    if mode not in ("1", "P"):
        grey = np.asarray(source.convert("L"), int)
        assert np.abs(np.asarray(Image.fromarray(image).convert("L"), int) - grey).mean() < 6


def test_a_cmyk_jpeg_is_not_inverted(tmp_path: Path) -> None:
    Image.new("RGB", SIZE, (200, 40, 30)).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").mean((0, 1)) - (200, 40, 30)).max() < 8


def png_of_depth_16(path: Path, channels: int) -> Path:
    """A 16-bit PNG of grey (1) or RGB (3) or RGBA (4), which Pillow's mode does not tell from 8 bits."""
    colour = {1: 0, 3: 2, 4: 6}[channels]

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + bytes([0, 200] * channels * 5) for _ in range(4))
    head = struct.pack(">IIBBBBB", 5, 4, 16, colour, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_refused_not_darkened(tmp_path: Path, channels: int) -> None:
    with pytest.raises(DatasetError, match="8 bits a channel"):
        read_image(png_of_depth_16(tmp_path / "a.png", channels))


@pytest.mark.parametrize("orientation", [6, 8])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_an_image_is_turned_once_where_the_annotated_size_says_so(tmp_path: Path, kind: str, orientation: int) -> None:
    path = turned(tmp_path / "a.jpg", orientation, format=kind)
    scene = np.asarray(Image.open(tmp_path / "scene.png"), int)
    back = {6: 1, 8: -1}[orientation]
    shown, raw = read_image(path, SIZE).astype(int), read_image(path, SIZE[::-1]).astype(int)
    assert np.abs(shown - scene).mean() < 6
    assert np.array_equal(raw, np.rot90(shown, back))
    assert header(path) == (SIZE[::-1], orientation)


def test_half_a_turn_fits_both_ways_and_is_made(tmp_path: Path) -> None:
    path = turned(tmp_path / "a.jpg", 3, quality=95)
    scene = np.asarray(Image.open(tmp_path / "scene.png"), int)
    assert np.abs(read_image(path, SIZE).astype(int) - scene).mean() < 6
    assert np.abs(read_image(path, SIZE, "ignore").astype(int) - scene[::-1, ::-1]).mean() < 6


def test_a_size_that_fits_neither_way_names_the_orientation(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"EXIF orientation 6, but it is annotated at 100x100"):
        read_image(turned(tmp_path / "a.jpg", 6), (100, 100))
    with pytest.raises(DatasetError, match=r"48x64 pixels, EXIF orientation 6, but it is annotated at 64x48"):
        read_image(turned(tmp_path / "a.jpg", 6), SIZE, "ignore")


def test_what_is_not_an_image_is_told_as_what_it_is(tmp_path: Path) -> None:
    from instsynth_dagster.data.reading import decoded

    photo = picture(tmp_path / "a.png", SIZE, format="JPEG")
    assert read_image(photo).shape == (48, 64, 3)  # whatever it is called
    with pytest.raises(DatasetError, match="holds JPEG, whatever its name says; save it as PNG"):
        decoded(photo, ("PNG",))
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(picture(tmp_path / "b.jpg", SIZE).read_bytes()[:700])
    with pytest.raises(DatasetError, match="not a whole image"):
        read_image(cut)
    heic = tmp_path / "c.jpg"
    heic.write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    with pytest.raises(DatasetError, match="holds HEIC or AVIF"):
        read_image(heic)
    (tmp_path / "d.jpg").touch()
    with pytest.raises(DatasetError, match="empty file"):
        read_image(tmp_path / "d.jpg")


def test_several_pictures_in_a_file_are_refused_but_a_phones_second_one_is_passed_over(tmp_path: Path) -> None:
    frames = [Image.new("RGB", SIZE, (shade, 0, 0)) for shade in (10, 200)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(DatasetError, match="holds several pictures"):
        read_image(tmp_path / "a.tif")
    frames[0].save(tmp_path / "b.jpg", format="MPO", save_all=True, append_images=frames[1:])
    assert np.abs(read_image(tmp_path / "b.jpg").astype(int) - [10, 0, 0]).max() < 4


def test_shadows_of_macos_are_no_images() -> None:
    assert not is_image_name("._IMG_1.jpg")
    assert not is_image_name("notes.txt")
    assert not is_image_name(".DS_Store")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(DatasetError, match=r"nowhere.jpg: no such file"):
        read_image(Path("nowhere.jpg"))
