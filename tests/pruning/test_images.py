"""Uploads: every kind that is an image opens as upright RGB, everything else is refused with a reason."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from pruning.images import ImageError, open_image
from pruning.models import VLM
from pruning.rgb import TURNS, as_rgb, fitting


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no picture."""
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
        (b"\x00\x00\x00\x1cftypmif1\x00\x00\x00\x00mif1heicmiaf", "HEIC"),
        (b"\x00\x00\x00\x1cftypmif1\x00\x00\x00\x00mif1avifmiaf", "AVIF"),
        (b"\x89PNG\r\n\x1a\n" + b"\x00" * 40, "image"),
        (png_header(30_000, 30_000), "900 million pixels, more than the 50 million allowed"),
        (png_header(9_000, 9_000), "9000×9000"),
    ],
    ids=["empty", "text", "svg", "svg-xml", "heic", "heic-2", "avif", "garbage", "bomb", "large"],
)
def test_what_is_no_image_is_refused_with_a_reason(data: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "upload.png"
    path.write_bytes(data)
    for source in (path, data):
        with pytest.raises(ImageError, match=reason):
            open_image(source)


def test_a_thread_of_an_image_keeps_its_size_so_that_the_model_can_name_it() -> None:
    assert open_image(Image.new("RGB", (1, 4000))).size == (1, 4000)
    assert open_image(Image.new("RGB", (10, 4096)), most_pixels=8000).size == (4, 1638)


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


def deep_png(values: np.ndarray, kind: int, *chunks: bytes) -> bytes:
    """A PNG of 16 bits: values (H, W) or (H, W, channels), kind as the format counts colour types."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    pieces = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(pieces)


RAMP = np.arange(0, 4096, 16).reshape(1, 256)  # what a 12-bit scanner writes
FULL = np.arange(0, 65536, 257).reshape(1, 256)
OPAQUE = np.full_like(RAMP, 65535)


@pytest.mark.parametrize(
    ("data", "step"),
    [
        (deep_png(RAMP, 0), 1),
        (deep_png(np.stack([RAMP] * 3, -1), 2), 17),
        (deep_png(np.stack([RAMP, OPAQUE], -1), 4), 17),
        (deep_png(np.stack([RAMP, RAMP, RAMP, OPAQUE], -1), 6), 17),
        (encoded(Image.fromarray(RAMP.astype(np.uint16)), "TIFF"), 1),
        (encoded(Image.fromarray(RAMP.astype(np.int32)), "TIFF"), 1),
    ],
    ids=["grey", "colour", "grey-alpha", "colour-alpha", "tiff", "tiff-32"],
)
def test_twelve_bits_in_sixteen_are_seen_and_told(data: bytes, step: int) -> None:
    opened = open_image(data)
    np.testing.assert_allclose(np.asarray(opened)[0, :, 0], np.arange(256), atol=step)
    (note,) = opened.info["notes"]
    assert "Brightened" in note
    assert "12 bits" in note


@pytest.mark.parametrize(
    "data",
    [
        deep_png(FULL, 0),
        deep_png(FULL, 0, chunk(b"sBIT", b"\x0c")),  # scaled up from 12 bits, as the format wants it
        deep_png(np.stack([FULL] * 3, -1), 2),
        deep_png(np.stack([FULL, OPAQUE], -1), 4),
        encoded(Image.fromarray(FULL.astype(np.uint16)), "TIFF"),
        encoded(Image.frombytes("I;16B", (256, 1), FULL.astype(">u2").tobytes()), "TIFF"),
    ],
    ids=["grey", "sbit", "colour", "grey-alpha", "tiff", "big-endian"],
)
def test_sixteen_bits_that_are_used_stay_as_they_are(data: bytes) -> None:
    opened = open_image(data)
    np.testing.assert_array_equal(np.asarray(opened)[0, :, 0], np.arange(256))
    assert opened.info["notes"] == ()


def tiff(values: np.ndarray, bits: int, photometric: int = 1) -> bytes:
    """An uncompressed grey TIFF; values are packed by the caller: 12 bits to three bytes for two."""
    width, height = values.shape[1], values.shape[0]
    if bits == 12:
        a, b = values.reshape(-1, 2).T.astype(np.uint32)
        data = np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], -1).astype(np.uint8).tobytes()
    else:
        data = values.astype(f"<u{bits // 8}").tobytes()
    entries = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height}
    entries[279] = len(data)
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items()))
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(entries)) + table + b"\0" * 4


def test_a_tiff_is_read_by_the_bits_and_the_white_that_it_declares() -> None:
    dark = RAMP[:, :32]  # of 12 bits: below 512 of 4,095
    opened = open_image(tiff(dark, 12))
    np.testing.assert_allclose(np.asarray(opened)[0, :, 0], dark[0] * 255 / 4095, atol=1)
    assert opened.info["notes"] == ()
    np.testing.assert_array_equal(np.asarray(open_image(tiff(FULL, 16, 0)))[0, :, 0], np.arange(256)[::-1])
    wide = open_image(tiff(FULL * 65537, 32))  # up to 2^32 - 1, which is negative where it is read as signed
    np.testing.assert_array_equal(np.asarray(wide)[0, :, 0], np.arange(256))
    assert "Stretched" in wide.info["notes"][0]


def test_numbers_that_are_none_are_black_and_the_others_keep_their_range() -> None:
    values = np.array([[-5, 95, np.nan, np.inf, -np.inf]], np.float32)
    opened = open_image(Image.fromarray(values))
    assert np.asarray(opened)[0, :, 0].tolist() == [0, 255, 0, 0, 0]
    assert ["3 of its values" in opened.info["notes"][0], "-5 to 95" in opened.info["notes"][1]] == [True, True]
    flat = open_image(Image.fromarray(np.full((1, 3), 1000, np.float32)))
    assert np.asarray(flat)[0, :, 0].tolist() == [0, 0, 0]
    assert not np.asarray(open_image(Image.fromarray(np.full((2, 2), np.nan, np.float32)))).any()


@pytest.mark.parametrize(
    ("data", "right"),
    [
        (deep_png(np.array([[0, 20000, 65535]]), 0, chunk(b"tRNS", struct.pack(">H", 0))), [255, 78, 255]),
        (deep_png(np.array([[65535, 2048, 4095]]), 0, chunk(b"tRNS", b"\xff\xff")), [255, 128, 255]),
        (deep_png(np.array([[[0] * 3, [20000] * 3]]), 2, chunk(b"tRNS", struct.pack(">HHH", *[20000] * 3))), [0, 255]),
        (encoded(Image.new("1", (1, 1)), "PNG", transparency=0), [255]),
        (encoded(Image.new("L", (1, 1), 9), "PNG", transparency=9), [255]),
    ],
    ids=["grey-16", "grey-12", "colour-16", "one-bit", "grey"],
)
def test_a_transparent_value_lies_on_white_in_every_depth(data: bytes, right: list[int]) -> None:
    assert np.asarray(open_image(data))[0, :, 0].tolist() == right


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "PA", "La", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV",
                                  "LAB", "I", "I;16", "I;16L", "I;16B", "F"])  # fmt: skip
def test_every_mode_of_an_image_in_memory_becomes_rgb(mode: str) -> None:
    rgb, notes = as_rgb(Image.new(mode, (3, 2)))
    assert (rgb.mode, rgb.size, notes) == ("RGB", (3, 2), ())
    again, notes = as_rgb(rgb)
    assert again is rgb  # what has been through costs nothing
    assert notes == ()


@pytest.mark.parametrize("path", ["data:image/png;base64," + "A" * 12_000, "a" * 5000, "a\0b" * 900])
def test_a_picture_in_the_place_of_its_path_is_refused_in_few_words(path: str) -> None:
    with pytest.raises(ImageError, match="cannot be read") as refusal:
        open_image(path)
    assert len(str(refusal.value)) < 300


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


def turned(orientation: int, kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.new("RGB", (40, 20), "blue")
    image.paste("red", (0, 0, 10, 10))
    return encoded(image, kind, exif=exif)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", range(11))
def test_a_note_of_turning_is_there_exactly_where_something_was_turned(orientation: int, kind: str) -> None:
    data = turned(orientation, kind)
    opened, plain = open_image(data), open_image(turned(1, kind))
    right = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    np.testing.assert_array_equal(np.asarray(opened), np.asarray(right))
    assert (opened.info["notes"] != ()) == (orientation in TURNS)
    assert (opened.tobytes() != plain.tobytes()) == (orientation in TURNS)


def test_damaged_metadata_leave_a_good_picture_good(picture: Image.Image) -> None:
    for exif in (b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff"):
        opened = open_image(encoded(picture, "PNG", exif=exif))
        assert opened.tobytes() == picture.tobytes()
        assert opened.info["notes"] == ()


def test_animation_gives_its_first_frame_and_a_note() -> None:
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("red", "green", "blue")]
    opened = open_image(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert opened.getpixel((0, 0)) == (255, 0, 0)
    assert opened.info["notes"] == ("First frame of several.",)


def test_what_memory_cannot_hold_is_scaled_down_and_told_and_tiny_ones_are_kept() -> None:
    opened = open_image(Image.new("RGB", (8000, 4000)))
    assert opened.size == (5792, 2896)
    assert opened.info["notes"] == (
        "Scaled down from 8000×4000 to 5792×2896 pixels: at most 16.8 million are held in memory.",
    )
    assert open_image(Image.new("RGB", (1, 1))).size == (1, 1)


def test_a_long_picture_keeps_every_pixel_that_memory_holds() -> None:
    """A screenshot of a whole page: its long side says nothing about the memory that it needs."""
    opened = open_image(Image.new("RGB", (690, 15420)))
    assert opened.size == (690, 15420)
    assert opened.info["notes"] == ()


@given(width=st.integers(1, 9000), height=st.integers(1, 9000), most=st.integers(1, 1 << 24))
def test_scaling_keeps_the_bound_and_never_makes_an_image_more_elongated(width: int, height: int, most: int) -> None:
    found = fitting((width, height), most)
    short, long = sorted((width, height))
    if width * height <= most or short * most < long:
        assert found == (width, height)
        return
    less, more = sorted(found)
    assert (width <= height) == (found[0] <= found[1]) or less == more
    assert 1 <= less * more <= most
    assert more * short <= long * less  # the ratio, in whole numbers
    assert abs(less - (most * short / long) ** 0.5) < 1
    assert fitting(found, most) == found


SAME = {
    "plain": encoded(Image.linear_gradient("L").convert("RGB")),
    "transparent": encoded(Image.merge("LA", [Image.linear_gradient("L"), Image.radial_gradient("L")])),
    "turned": turned(6, "JPEG"),
    "sixteen bits": deep_png(np.repeat(FULL, 64, 0), 0),
    "twelve bits": deep_png(np.repeat(RAMP, 64, 0), 0),
    "large": encoded(Image.linear_gradient("L").resize((6000, 3000))),
}


@pytest.mark.parametrize("name", SAME)
def test_a_model_sees_of_an_opened_image_what_the_page_sees_of_its_file(name: str, tiny_vlm: VLM) -> None:
    page, library = tiny_vlm.encode([open_image(SAME[name])]), tiny_vlm.encode([Image.open(io.BytesIO(SAME[name]))])
    assert page.sizes == library.sizes
    assert torch.equal(page.tokens.features, library.tokens.features)
    np.testing.assert_array_equal(page.rects, library.rects)


def test_a_damaged_image_is_told_by_the_library_as_well(tiny_vlm: VLM, picture: Image.Image) -> None:
    data = encoded(picture.resize((300, 200)), "JPEG")
    with pytest.raises(ImageError, match="damaged"):
        tiny_vlm.encode([Image.open(io.BytesIO(data[: len(data) // 2]))])
    with pytest.raises(ImageError, match="0×4"):
        tiny_vlm.encode([Image.new("RGB", (0, 4))])


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
