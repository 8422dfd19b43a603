"""Uploads: every kind that is an image opens as upright RGB, everything else is refused with a reason."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pruning.images import ImageError, open_image


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.fixture
def picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_kinds_keep_every_pixel(picture: Image.Image, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(encoded(picture, kind))
    for source in (path, str(path), path.read_bytes(), picture):
        opened = open_image(source)
        assert opened.mode == "RGB"
        assert opened.info["notes"] == ()
        np.testing.assert_array_equal(np.asarray(opened), np.asarray(picture))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"just text", "not an image of a known kind"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- a -->\n<svg/>", "SVG"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00", "HEIC"),
        (b"\x89PNG\r\n\x1a\n" + b"\x00" * 40, "image"),
        (png_header(30_000, 30_000), "900 million pixels, more than the 50 million allowed"),
        (png_header(9_000, 9_000), "9000×9000"),
    ],
    ids=["empty", "text", "svg", "svg-xml", "heic", "garbage", "bomb", "large"],
)
def test_what_is_no_image_is_refused_with_a_reason(data: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "upload.png"
    path.write_bytes(data)
    for source in (path, data):
        with pytest.raises(ImageError, match=reason):
            open_image(source)


def test_a_thread_of_an_image_keeps_its_size_so_that_the_model_can_name_it() -> None:
    assert open_image(Image.new("RGB", (1, 4000))).size == (1, 4000)
    assert open_image(Image.new("RGB", (10, 4096))).size == (5, 2048)


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(self: Image.Image) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(Image.Image, "load", decoded)
    with pytest.raises(ImageError, match="million allowed"):
        open_image(png_header(8_000, 8_000))


def test_file_limit_holds_without_reading_the_file(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(50 * 2**20)  # sparse: nothing is written
    with pytest.raises(ImageError, match=r"50\.0 MB, more than the 20 MB"):
        open_image(path)
    with pytest.raises(ImageError, match="cannot be read"):
        open_image(tmp_path / "absent.png")
    with pytest.raises(ImageError, match="not a file"):
        open_image(tmp_path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_truncated_files_are_called_damaged(picture: Image.Image, kind: str) -> None:
    data = encoded(picture.resize((300, 200)), kind)
    with pytest.raises(ImageError, match="damaged"):
        open_image(data[: len(data) // 2])


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(1, 256)
    for image in (Image.fromarray(ramp), Image.fromarray(ramp.astype(np.int32))):
        grey = np.asarray(open_image(encoded(image) if image.mode == "I;16" else image))[0, :, 0]
        np.testing.assert_allclose(grey, np.arange(256), atol=1)


def test_float_and_signed_grey_use_their_own_range() -> None:
    unit = np.linspace(0, 1, 256, dtype=np.float32).reshape(1, 256)
    signed = np.linspace(-500, 500, 256, dtype=np.float32).reshape(1, 256)
    for values in (unit, signed):
        grey = np.asarray(open_image(encoded(Image.fromarray(values), "TIFF")))[0, :, 0]
        np.testing.assert_allclose(grey, np.arange(256), atol=1)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_on_white(mode: str) -> None:
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    opened = open_image(encoded(image))
    assert [opened.getpixel((0, 0)), opened.getpixel((1, 0))] == [(255, 255, 255), (0, 0, 0)]


def test_cmyk_and_one_bit_become_rgb() -> None:
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    red, green, blue = open_image(encoded(cmyk, "JPEG")).getpixel((4, 4))  # type: ignore[misc]
    assert red > 200
    assert max(green, blue) < 60
    assert open_image(encoded(Image.new("1", (3, 3), 1))).getpixel((1, 1)) == (255, 255, 255)


@pytest.mark.parametrize("orientation", [3, 6])
def test_exif_rotation_is_applied(orientation: int) -> None:
    image = Image.new("RGB", (40, 20), "blue")
    image.paste("red", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = orientation
    opened = open_image(encoded(image, "JPEG", exif=exif, quality=95))
    assert opened.size == ((20, 40) if orientation == 6 else (40, 20))
    red_corner = (5, 5) if orientation == 6 else (35, 5)
    assert opened.getpixel(red_corner)[0] > 200  # type: ignore[index]
    assert "upright" in opened.info["notes"][0]
    assert not opened.getexif()


def test_animation_gives_its_first_frame_and_a_note() -> None:
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("red", "green", "blue")]
    opened = open_image(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert opened.getpixel((0, 0)) == (255, 0, 0)
    assert opened.info["notes"] == ("First frame of several.",)


def test_large_images_are_scaled_down_and_tiny_ones_are_kept() -> None:
    opened = open_image(Image.new("RGB", (5000, 100)))
    assert opened.size == (2048, 41)
    assert opened.info["notes"] == ("Scaled down from 5000×100 pixels.",)
    assert open_image(Image.new("RGB", (1, 1))).size == (1, 1)


GOOD = Image.fromarray(np.random.default_rng(1).integers(0, 255, (24, 16, 3), dtype=np.uint8))
FILES = [
    *(encoded(GOOD, kind) for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")),
    encoded(GOOD.convert("I;16"), "TIFF", compression="tiff_lzw"),
    encoded(GOOD, "PNG", exif=GOOD.getexif()),
    encoded(GOOD.quantize(7), "GIF", save_all=True, append_images=[GOOD.rotate(90).quantize(7)]),
]


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A good file with bytes changed, cut out or put in, or a part of another file after a part of it."""
    data = bytearray(draw(st.sampled_from(FILES)))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(data)))
        how = draw(st.sampled_from(("change", "cut", "insert", "end", "splice")))
        if how == "change":
            data[place : place + 1] = draw(st.binary(min_size=1, max_size=4))
        elif how == "cut":
            del data[place : place + draw(st.integers(1, 64))]
        elif how == "insert":
            data[place:place] = draw(st.binary(max_size=16))
        elif how == "end":
            del data[place:]
        else:
            data[place:] = draw(st.sampled_from(FILES))[place:]
    return bytes(data)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.*")  # on metadata that are damaged
@settings(max_examples=300, deadline=None)
@given(data=spoilt() | st.binary(max_size=200))
def test_whatever_is_uploaded_opens_or_is_refused_in_words(data: bytes) -> None:
    opened, told = None, ""
    try:
        opened = open_image(data, max_pixels=10_000)
    except ImageError as error:
        told = str(error)
    if opened is None:
        assert 10 < len(told) < 400
    else:
        assert opened.mode == "RGB"
        assert 0 < opened.width * opened.height <= 10_000
