"""Settings of every stage as frozen dataclasses, the presets, and overrides such as ``fit.steps=200``."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FieldConfig:
    """The head field d = F([posenc(x), z(x), g]) (equation 1)."""

    frequencies: int = 5  # of the positional encoding of x
    latent: int = 128  # length of g
    layers: int = 3  # hidden layers of the decoder
    width: int = 128  # neurons in each
    softplus_beta: float = 60.0  # sharpness of Softplus
    levels: tuple[int, ...] = (4, 5, 6)  # of the feature grids; empty for none
    features: int = 8  # length of z
    local_rank: int = 0  # of what g adds to one of the grids; 0: g enters the decoder alone, as in the paper
    local_level: int = 4  # of that grid; without such a level g has no local features
    initial_radius: float = 0.6  # of the sphere of the geometric initialisation, units


@dataclass(frozen=True)
class RadianceConfig:
    """The radiance field: Q (position to features) and R (features, normal and view to colour); section 3.3."""

    q_frequencies: int = 6
    q_layers: int = 2
    q_width: int = 64
    q_skip: int = 0  # layer that sees the input again; 0 for none
    q_out: int = 32
    r_frequencies: int = 0
    r_layers: int = 2
    r_width: int = 64


@dataclass(frozen=True)
class PriorConfig:
    """Training of the prior (section 3.1). One epoch sees every head once."""

    epochs: tuple[int, int, int] = (140, 110, 300)  # of the stages Z4, Z5 and Z6
    heads_per_step: int = 8
    points_per_head: int = 512  # space samples; a quarter as many surface samples go with them
    learning_rate: float = 2e-3
    decay_epochs: int = 0  # halve the rate every so many epochs; 0: cosine to a twentieth over the whole training
    freeze_earlier: bool = False  # each stage trains its grid alone, as in the paper
    distances: bool = True  # true signed distances in space (needs inside and outside); False: eikonal term, as in the paper
    mask_epochs: int = 10  # over which the positional encoding is opened
    normal_weight: float = 0.04
    eikonal_weight: float = 0.1
    latent_weight: float = 1e-4  # lambda_0 / sigma^2 of equation 3
    grid_weight: float = 1e-5
    smooth_weight: float = 0.3  # of differences between neighbouring nodes of the two finest grids; not in the paper


@dataclass(frozen=True)
class RaysConfig:
    """Sampling of rays and the search for their first hit (section 3.2)."""

    per_step: int = 1500  # of three photos; other numbers of photos draw in proportion to their root
    inside_share: float = 0.65  # of the rays that start in the masks; the others lie around their outline
    search: str = "grid"  # "grid": on a cached coarse field, then Newton; "field": N_p + N_f samples of the field itself; "sphere": tracing
    coarse: int = 64  # N_p
    fine: int = 8  # N_f
    cache_resolution: int = 64  # cells per axis of the cached field
    refresh_every: int = 10  # steps between refreshes of its narrow band


@dataclass(frozen=True)
class StartConfig:
    """The second-order start of the fit: Gauss-Newton on pose and latent. Standard deviations are those of the noise."""

    steps: int = 9
    pose_steps: int = 2  # of them, on the pose alone
    outline_rays: int = 1000
    outline_count: float = 300.0  # independent observations that the outline's rays amount to, per scene, where there are no normals
    outline_count_normals: float = 100.0  # ... where normals are certain: hair and clothes have outlines that are not the head's
    outline_std: float = 0.01  # units
    outline_width: float = 0.05  # of the robust weight, units: hair and clothes that no head has
    outline_width_start: float = 4.0  # times that at the first step; 1 where predicted coordinates have placed the head
    normal_rays: int = 1250
    normal_count: float = 1800.0  # independent observations that normals amount to, over the number of photos: outlines tell more then
    normal_std: float = 0.15  # length of the difference of unit normals
    normal_width: float = 0.5  # of the robust weight
    scale_std: float = 0.03  # of the log of a head's size against what the rough pose found
    damping: float = 1e-2


@dataclass(frozen=True)
class FitConfig:
    """The fit of one head (section 3.2). Lengths in units of 200 mm."""

    steps: int = 66
    free_decoder_at: float = 1.0  # share of the steps after which the decoder is trained too; 1: never
    image_size: int = 256  # longer side to which photos are shrunk
    learning_rate_latent: float = 7.2e-2  # in standard deviations of the training latents
    learning_rate_grid: float = 1.45e-2  # of the finest grid
    grid_rate_growth: float = 1.4  # times that from each grid to the next coarser one: what lies far off is reached before it is detailed
    grid_rate_without_normals: float = (
        0.1  # times that where no photo has normals, more with trust in them: outlines and colours alone decide little
    )
    learning_rate_decoder: float = 1e-4
    learning_rate_radiance: float = 8e-3
    color_weight: float = 0.1
    mask_weight: float = 50.0
    normal_weight: float = 1.0
    latent_weight: float = 1e-2
    smooth_weight: float = 0.05  # of changes to the grids between neighbouring nodes


@dataclass(frozen=True)
class ShadingConfig:
    """The brightness of faces, compared with what their light makes of their normals; not in the paper. Not where normals are certain."""

    count: float = 60.0  # of the start: independent observations that the brightness of a scene's faces amounts to; 0: none
    std: float = 0.1  # ... and their noise, in means of brightness
    weight: float = 0.3  # of robust squares, in the fit; 0: none
    width: float = 0.6  # of the robust weight, in means of brightness
    rays: int = 3000  # of the start, on all of the subjects
    steps: int = 5  # more for the start: light bends its valleys


@dataclass(frozen=True)
class PatchesConfig:
    """Photoconsistency between photos: patches of one compared with the others; not in the paper."""

    weight: float = 0.3  # of 1 - normalised cross-correlation where normals are certain, twice that where there are none; 0: no patches
    outlier: float = 0.3  # ... from which on pairs lose their say at the end of the fit, highlights for one; in inverse proportion before
    image_size: int = 512  # longer side to which photos are shrunk
    wide_octaves: int = 1  # pairs count as far as they correlate in photos halved so often, too; 0: all count alike
    half_width: int = 2  # pixels: patches are 5 x 5
    pairs: int = 600  # of a hit and another photo, per step, at most
    noise: float = 0.005  # of grey values: patches with less contrast have no say


@dataclass(frozen=True)
class SpotsConfig:
    """Spots that two photos both show, to which the surface is drawn where it is far off; not in the paper."""

    weight: float = 150.0  # of the distance, at the start of the fit; it falls to nothing at the end; 0: no spots
    near: float = 0.03  # units: nearer ones have no say, patches are more exact
    per_step: int = 200  # of them, at most


@dataclass(frozen=True)
class BesideConfig:
    """What outlines show beside any head of the prior, tails of hair above all; not in the paper."""

    least: int = 100  # nodes of rays.cache_resolution, 6 mm apart: smaller parts are left to the fit; 0: all are
    far: float = 0.03  # units: rays that see the subject and pass the start's head further off see something beside it
    reach: float = 0.15  # units: parts that end nearer to the head are left to the fit, which reaches as far


@dataclass(frozen=True)
class SilhouetteConfig:
    """Silhouette and pose of the fit."""

    alpha: float = 1500.0  # sharpness at the end: the mask probability is sigmoid(-alpha * d)
    alpha_start: float = 300.0  # ... and at the start, from where it grows geometrically
    outlier_width: float = 0.05  # units: silhouettes further off move the grids rather than latent and pose
    pose_learning_rate: float = 1e-3  # of the pose during the fit; 0 holds it


@dataclass(frozen=True)
class CamerasConfig:
    """Cameras that are refined with the head: a rigid motion each, which stays near where the camera is stated."""

    refine: bool = False
    rotation_std_deg: float = 3.0
    translation_std: float = 0.1  # units, at the head
    learning_rate: float = 1e-3  # during the fit, radians and units
    steps_factor: float = 1.8  # of fit.steps, where cameras are refined: they are slower to settle than a head
    match_steps: int = 6  # that the start goes on with cameras free, tied by points that two photos both show; 0: free at once, no points
    match_count: float = 300.0  # independent observations that they amount to, per scene
    match_std: float = 0.0075  # units, at the head
    match_width: float = 0.01  # of the robust weight, units


PLAIN_CAMERAS = CamerasConfig(refine=True, rotation_std_deg=6.0, translation_std=0.2, learning_rate=3e-3)
"""Of plain photos, whose cameras are estimated: most of the translation's error is depth."""


@dataclass(frozen=True)
class MeshConfig:
    """Extraction of the mesh."""

    resolution: int = 256  # cells per axis of the box
    resolution_unsure: int = 192  # ... at most, where normals are predicted or there are none: half the time for what is smooth anyway
    coarse: int = 32  # cells per axis of the grid that finds the narrow band
    unseen_blur: float = 0.045  # units: the Gaussian over what no photo sees, whose details nothing vouches for; 0: none
    extractor: str = "auto"  # of mesh.extraction.EXTRACTORS; auto takes the preferred backend of the device
    sliver_depth: float = 0.0075  # units: what hangs on the head by less than twice this, thin sheets above all, is cut off; 0: nothing is
    outline_margin: float = 0.015  # units: what is further outside a photo's outline is cut off; 0: nothing is
    cut_handles: bool = True  # where hair and ears make some: the surface is then a sphere's, topologically
    fair: float = 0.04  # units around where predicted normals contradict the surface that a smooth one replaces; 0: none does
    relief: float = 0.015  # units: reach of the relief that the photos' normals give the mesh; 0: the field's zero level as it is
    refine: bool = True  # halve the triangles that a photo sees
    refine_face: bool = True  # ... and those of the face again: vertices 0.4 mm apart at a resolution of 256


@dataclass(frozen=True)
class TextureConfig:
    """The avatar: a lighter mesh with a texture baked from the photos."""

    size: int = 1024  # texels along each side; 0 leaves the full mesh with colours per vertex
    faces: int = 20000
    mirror: bool = True  # sides that no photo shows take after the other one


@dataclass(frozen=True)
class NormalsConfig:
    """The network that estimates normals from a photo, and the weights of its losses."""

    encoder: str = "tu-tf_efficientnet_lite1"  # a name of segmentation-models-pytorch
    decoder_channels: tuple[int, ...] = (256, 160, 96, 64, 32)  # from the coarsest level to the finest
    crop_px: int = 224  # side of the crops that it predicts on; `normals train` takes a fifth more than it trains on (192 for the shipped)
    likelihood_weight: float = 0.3  # of the angular likelihood, which teaches the predicted concentration
    angle_weight: float = 2.0  # per radian
    cosine_weight: float = 3.0
    gradient_weight: float = 0.1  # of differences between neighbouring pixels; more keeps early training at smooth domes
    coarse_weight: float = 2.0  # of mean errors over 8 and 16 pixels: what a face's shape is made of
    foreground_weight: float = 0.5
    coordinate_weight: float = 0.025  # per millimetre; more drowns the normals' gradient
    face_share: float = 2.0  # times the weight of coordinates and normals on the face


@dataclass(frozen=True)
class NormalsTrainingConfig:
    """The training of that network. One entry per stage in the tuples."""

    sizes: tuple[int, ...] = (128,)  # pixels along each side of the crops; a last stage at 256 brought nothing on a CPU's budget
    steps: tuple[int, ...] = (12000,)
    batch: tuple[int, ...] = (16,)
    pool: tuple[int, ...] = (20000,)  # pairs kept for reuse; 13 bytes a pixel on disk
    pool_start: int = 192  # pairs in the pool before training starts
    pairs_per_step: int = 4  # fresh pairs a step where no worker makes them
    learning_rate: float = 1e-3
    encoder_rate: float = 0.5  # times that for the encoder
    warm_up: float = 0.02  # share of the training over which the rate rises
    weight_decay: float = 1e-2
    clip: float = 1.0  # of the gradient's norm
    average: float = 0.997  # decay of the averaged weights, which are those that are kept
    mixed_precision: bool = True  # bfloat16 in the decoder, where the processor multiplies it itself
    validation_pairs: int = 48


@dataclass(frozen=True)
class Config:
    """Everything a run depends on besides its input."""

    field: FieldConfig = dataclasses.field(default_factory=FieldConfig)
    radiance: RadianceConfig = dataclasses.field(default_factory=RadianceConfig)
    prior: PriorConfig = dataclasses.field(default_factory=PriorConfig)
    rays: RaysConfig = dataclasses.field(default_factory=RaysConfig)
    start: StartConfig = dataclasses.field(default_factory=StartConfig)
    fit: FitConfig = dataclasses.field(default_factory=FitConfig)
    shading: ShadingConfig = dataclasses.field(default_factory=ShadingConfig)
    patches: PatchesConfig = dataclasses.field(default_factory=PatchesConfig)
    spots: SpotsConfig = dataclasses.field(default_factory=SpotsConfig)
    beside: BesideConfig = dataclasses.field(default_factory=BesideConfig)
    silhouette: SilhouetteConfig = dataclasses.field(default_factory=SilhouetteConfig)
    cameras: CamerasConfig = dataclasses.field(default_factory=CamerasConfig)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    texture: TextureConfig = dataclasses.field(default_factory=TextureConfig)
    normals: NormalsConfig = dataclasses.field(default_factory=NormalsConfig)
    normals_training: NormalsTrainingConfig = dataclasses.field(default_factory=NormalsTrainingConfig)


PRESETS: dict[str, Config] = {
    "fast": Config(),
    "paper": Config(
        field=FieldConfig(
            frequencies=6, latent=256, layers=3, width=512, softplus_beta=100.0
        ),
        radiance=RadianceConfig(
            q_frequencies=6, q_layers=8, q_width=512, q_skip=4, q_out=256, r_frequencies=4, r_layers=4, r_width=512
        ),
        prior=PriorConfig(
            epochs=(100, 200, 400), learning_rate=1e-4, decay_epochs=50, freeze_earlier=True, distances=False,
            mask_epochs=50, normal_weight=1.0, eikonal_weight=0.1, latent_weight=1e-3, grid_weight=1e-3,
            smooth_weight=0.0,
        ),
        rays=RaysConfig(per_step=2048, search="field"),
        fit=FitConfig(
            steps=1000, free_decoder_at=0.3, mask_weight=1.0, learning_rate_latent=1e-2, learning_rate_grid=1e-3, grid_rate_growth=1.0,
            learning_rate_radiance=1e-4, color_weight=1.0, smooth_weight=0.0,
        ),
        shading=ShadingConfig(count=0.0, weight=0.0),
        patches=PatchesConfig(weight=0.0),
        spots=SpotsConfig(weight=0.0),
        beside=BesideConfig(least=0),
        silhouette=SilhouetteConfig(alpha=600.0),
        mesh=MeshConfig(relief=0.0, resolution_unsure=256, outline_margin=0.0),
        normals=NormalsConfig(
            encoder="efficientnet-b1", decoder_channels=(256, 128, 64, 32, 16)
        ),
    ),
}  # fmt: skip


PLAIN_PRESETS = {
    "fast": dataclasses.replace(
        PRESETS["fast"],
        cameras=PLAIN_CAMERAS,
        mesh=dataclasses.replace(PRESETS["fast"].mesh, outline_margin=0.05),  # a camera that is two degrees off would cut cheeks
    ),
    "paper": dataclasses.replace(PRESETS["paper"], cameras=PLAIN_CAMERAS),
}
"""For plain photos, whose cameras are estimated: what the user sets is set on top of these."""

WITHOUT_PRIOR = ("start.steps=0", "silhouette.pose_learning_rate=0", "fit.free_decoder_at=0", "fit.learning_rate_decoder=0.001")
"""Of a fit that starts from a sphere: nothing but the alignment knows where the head is, and all of the field is free."""


def override(config: Config, assignments: typing.Iterable[str]) -> Config:
    """`config` with settings replaced by assignments such as ``fit.steps=200``.

    Raises:
        ValueError: unknown setting (with a suggestion) or a value of the wrong type.
    """
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        stage_name, dot, setting = name.strip().partition(".")
        known = settings()
        if not equals:
            raise ValueError(f"--set {assignment}: lacks a value. Write STAGE.FIELD=VALUE, such as fit.steps=200.")
        if not dot or name.strip() not in known:
            close = difflib.get_close_matches(name.strip(), known, n=1)
            stages = sorted({setting.partition(".")[0] for setting in known})
            of_stage = [setting for setting in known if setting.startswith(f"{stage_name}.")]
            hint = f" Did you mean {close[0]}?" if close else f" There are {', '.join(of_stage) or '.*, '.join(stages) + '.*'}."
            raise ValueError(f"--set {assignment}: unknown setting {name.strip()!r}.{hint}")
        stage = getattr(config, stage_name)
        value = _parse(text.strip(), known[name.strip()], assignment)
        config = dataclasses.replace(config, **{stage_name: dataclasses.replace(stage, **{setting: value})})
    return config


def settings() -> dict[str, Any]:
    """All settings as "stage.field", with their types."""
    stages = typing.get_type_hints(Config)
    return {f"{s}.{name}": kind for s, stage in stages.items() for name, kind in typing.get_type_hints(stage).items()}


def _parse(text: str, kind: Any, assignment: str) -> Any:
    try:
        if kind is bool:
            return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
        if isinstance(kind, types.GenericAlias):  # tuple[int, ...] and tuple[int, int, int]
            values = tuple(int(part) for part in text.split(",") if part)
            fixed = [k for k in typing.get_args(kind) if k is not Ellipsis]
            if Ellipsis not in typing.get_args(kind) and len(values) != len(fixed):
                raise ValueError(text)
            return values
        value = kind(text)
        if kind in (int, float) and not value >= 0:
            raise ValueError(text)
        return value
    except (ValueError, KeyError) as error:
        if kind in (int, float):
            raise ValueError(f"--set {assignment}: {text!r} is no {'whole number' if kind is int else 'number'} from 0 on.") from error
        wanted = getattr(kind, "__name__", str(kind))
        raise ValueError(f"--set {assignment}: {text!r} is not a value of type {wanted}.") from error


def to_dict(config: Config) -> dict[str, Any]:
    """As plain dictionaries, for JSON."""
    return dataclasses.asdict(config)


def stage_from_dict(kind: type, values: dict[str, Any]) -> Any:
    """A stage's configuration from JSON; lists become tuples, unknown names are an error."""
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
