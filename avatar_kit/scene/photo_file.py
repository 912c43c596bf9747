"""Reading a photo from wherever it comes: upright, sRGB, not larger than useful; or a clear refusal."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from avatar_kit.backends import pick
from avatar_kit.types import Array, InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".heic", ".heif")
SMALLEST_PX = 32  # of the shorter side
LONGEST_PX = 2048  # larger photos are shrunk: a head's crop is 256 px
FULL_FRAME_DIAGONAL_MM = 43.27
_DRAFT = 0.9  # of the size that is asked for: decoding a JPEG at a half or a quarter is fast, and saves resampling where it comes so near
_QUARTER_TURNS = {3: 2, 6: 1, 8: 3, 2: None, 4: None, 5: None, 7: None}  # of EXIF's orientations
_MOST_PIXELS = 150_000_000  # that are decoded whole, 450 MB; JPEGs shrink while they are decoded


@dataclass(frozen=True, eq=False)
class PhotoFile:
    """A photo as it should be looked at.

    Attributes:
        image: sRGB in [0, 1], (H, W, 3) float32, turned upright.
        mask: from an alpha channel, (H, W) bool, or None.
        size: (width, height) of the file's picture, px, upright.
        focal_px: of this image, from the file's EXIF, or None.
        quarter_turns: clockwise, 0 to 3, by which the file's pixels were turned, as its EXIF says; None where they were mirrored.
    """

    image: Array
    mask: Array | None
    size: tuple[int, int]
    focal_px: float | None = None
    quarter_turns: int | None = 0


def read_photo(file: Path | str, *, longest: int = LONGEST_PX) -> PhotoFile:
    """Read a photo of any kind that Pillow knows, at most `longest` px long.

    Raises:
        InputError: not there, no picture, damaged, too small or too large.
        BackendMissing: HEIC without pillow-heif.
    """
    file = Path(file)
    if not file.is_file():
        raise InputError(f"{file}: no such file. Give a photo, as JPEG or PNG.")
    if file.suffix.lower() in (".heic", ".heif"):
        pick("heic")
        register = importlib.import_module("pillow_heif").register_heif_opener
        register()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the number of pixels is checked below
            with Image.open(file) as picture:
                return _decode(file, picture, longest)
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{file}: has too many pixels ({error}). Shrink it first.") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{file}: is no picture that can be read. Export it as JPEG or PNG.") from error
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise InputError(f"{file}: cannot be read as a picture ({error}). Export it again as JPEG or PNG.") from error


def _decode(file: Path, picture: Image.Image, longest: int) -> PhotoFile:
    width, height = picture.size
    if min(width, height) < SMALLEST_PX:
        raise InputError(f"{file}: is {width} x {height} pixels; at least {SMALLEST_PX} along each side are needed.")
    if picture.format == "JPEG" and picture.mode in ("RGB", "L", "CMYK"):
        least = _DRAFT * min(1.0, longest / max(width, height))
        picture.draft(picture.mode, (max(int(width * least), 1), max(int(height * least), 1)))
    if picture.width * picture.height > _MOST_PIXELS:
        raise InputError(f"{file}: is {width} x {height} pixels; shrink it to at most {_MOST_PIXELS // 10**6} million.")
    focal = focal_35mm(picture)
    turns = _QUARTER_TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1), 0)
    upright = ImageOps.exif_transpose(picture)
    short, long = sorted((width, height))
    of_file = (long, short) if upright.width > upright.height else (short, long)
    upright = eight_bits(upright)
    alpha = None
    if "A" in upright.getbands() or "transparency" in upright.info:
        upright = upright.convert("RGBA")
        alpha = upright.getchannel("A")
    upright = upright.convert("RGB")
    scale = min(1.0, longest / max(upright.size))
    if scale < 1:
        size = (max(round(upright.width * scale), 1), max(round(upright.height * scale), 1))
        upright = upright.resize(size, Image.Resampling.BOX if scale < 0.5 else Image.Resampling.LANCZOS)
        alpha = alpha.resize(size) if alpha else None
    mask = None if alpha is None else np.asarray(alpha) > 127
    if mask is not None and (mask.all() or not mask.any()):
        mask = None  # an alpha channel that says nothing
    focal_px = None if focal is None else focal * float(np.hypot(*upright.size)) / FULL_FRAME_DIAGONAL_MM
    return PhotoFile(np.asarray(upright, np.float32) / 255, mask, of_file, focal_px, turns)


def focal_35mm(picture: Image.Image) -> float | None:
    """The focal length of a full-frame camera with the photo's diagonal angle of view, mm, from EXIF; None where it is silent."""
    details = picture.getexif().get_ifd(ExifTags.IFD.Exif)
    equivalent = _positive(details.get(ExifTags.Base.FocalLengthIn35mmFilm))
    if equivalent is not None:
        return equivalent
    focal, density = (_positive(details.get(tag)) for tag in (ExifTags.Base.FocalLength, ExifTags.Base.FocalPlaneXResolution))
    unit = {2: 25.4, 3: 10.0, 4: 1.0}.get(details.get(ExifTags.Base.FocalPlaneResolutionUnit, 2))
    width = _positive(details.get(ExifTags.Base.ExifImageWidth))
    if focal is None or density is None or unit is None or width is None:
        return None
    sensor_width = width / density * unit  # mm; the diagonal follows from the photo's proportions
    sensor_diagonal = sensor_width * float(np.hypot(*picture.size)) / max(picture.size)
    return focal * FULL_FRAME_DIAGONAL_MM / sensor_diagonal


def _positive(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if np.isfinite(number) and number > 0 else None


def eight_bits(picture: Image.Image) -> Image.Image:
    """The picture, scaled to 8 bits if it has more: Pillow would clip 16 to white."""
    if not picture.mode.startswith("I") and picture.mode != "F":
        return picture
    values = np.asarray(picture).astype(np.float64)
    top = 65535.0 if picture.mode != "F" or values.max() > 255 else 255.0 if values.max() > 1 else 1.0
    return Image.fromarray(np.round(np.clip(values / top, 0, 1) * 255).astype(np.uint8))


def mask_picture(picture: Image.Image) -> Image.Image:
    """A mask in grey levels: the alpha channel of what was cut out, where there is one that says something; otherwise how light it is."""
    if "A" in picture.getbands() or "transparency" in picture.info:
        alpha = picture.convert("RGBA").getchannel("A")
        if np.ptp(alpha.getextrema()) > 0:
            return alpha
    return eight_bits(picture).convert("L")


def read_mask(file: Path, shape: tuple[int, ...]) -> Array:
    """A mask (H, W) bool, brought to the `shape` (H, W) of its photo, which may have been shrunk.

    Raises:
        InputError: unreadable, of other proportions, or empty.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such file. Give a mask, white on the subject, of the photo's name.")
    try:
        with Image.open(file) as picture:
            mask = mask_picture(picture)
    except Exception as error:
        raise InputError(f"{file}: cannot be read as a picture ({error}). Export it again as PNG.") from error
    if abs(mask.width * shape[0] - mask.height * shape[1]) > 2 * max(*shape, *mask.size):
        raise InputError(f"{file}: is {mask.width} x {mask.height} pixels, its photo {shape[1]} x {shape[0]}. Make them the same shape.")
    found = np.asarray(mask.resize((shape[1], shape[0]))) > 127
    if not found.any():
        raise InputError(f"{file}: is all black. A mask is white on the subject and black elsewhere.")
    return found
