"""How far a mesh is from the truth: the `h3ds` protocol, reproduced, and a stricter `metric` one beside it. Millimetres.

`h3ds` does what the h3ds package's own functions do: ICP, with scale and possible reflection (trimesh's defaults), from
the vertices of the true face to the predicted vertices; then distances from true vertices to the nearest predicted
vertex, over the face (within 95 mm of the nose tip) and over the whole head. `metric` moves nothing (or rigidly,
on request) and measures from points to surfaces, in both directions, with what no view sees apart.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from avatar_kit.conventions import scale_of, transform_points
from avatar_kit.kernels.mesh_queries import MeshQueries
from avatar_kit.render.renderer import vertex_normals
from avatar_kit.render.visibility import visible_vertices
from avatar_kit.score.distances import Cloud
from avatar_kit.score.registration import icp
from avatar_kit.types import Array, Camera, InputError, Mesh, Reference

FACE_RADIUS_MM = 95.0
_NOSE = ("nose_tip", "nose")  # landmarks: ours, and as H3DS files have it
_VISIBLE_MM = 1.0  # a true vertex is seen by a camera if nothing lies more than this in front of it


@dataclass(frozen=True)
class H3dsScore:
    """Means and a percentile of vertex distances, true to predicted, after ICP; `face_raw_mm` before it."""

    face_mm: float
    face_p90_mm: float
    head_mm: float
    face_raw_mm: float
    scale: float


@dataclass(frozen=True)
class MetricScore:
    """Point-to-surface distances without (or with rigid) alignment.

    Attributes:
        face_mm, head_mm: true vertices to the predicted surface, mean.
        head_visible_mm, head_unseen_mm: those of them that some view sees, and the others; NaN without views.
        face_reverse_mm: predicted vertices within 95 mm of the true nose tip to the true surface, mean. Where no nose tip is stated,
            those to which the face is the nearest part of the truth.
        head_reverse_mm: predicted vertices to the true surface, mean. What the truth lacks, such as shoulders, counts.
        f1_1mm, f1_2mm, f1_5mm: of the face, harmonic mean of the shares of true and of predicted points that lie so near
            to the other surface (Knapitsch et al. 2017).
        normal_deg: mean angle between normals at those pairs, over the true face.
        watertight: every edge of the prediction has two faces.
    """

    face_mm: float
    head_mm: float
    head_visible_mm: float
    head_unseen_mm: float
    face_reverse_mm: float
    head_reverse_mm: float
    f1_1mm: float
    f1_2mm: float
    f1_5mm: float
    normal_deg: float
    watertight: bool


def face_region(reference: Reference, mm_per_unit: float) -> Array:
    """Indices of the true vertices of the face: as stated, else those within 95 mm of the nose tip.

    Raises:
        InputError: neither a region nor a nose tip, or a region without vertices.
    """
    if reference.face_region is not None:
        if len(reference.face_region) == 0:
            raise InputError("the reference's face region is empty. List its vertices in regions/face_sphere.txt, or remove that file.")
        return reference.face_region
    nose = nose_tip(reference)
    distance = np.linalg.norm(reference.mesh.vertices - nose, axis=1) * mm_per_unit
    return np.flatnonzero(distance < FACE_RADIUS_MM)


def nose_tip(reference: Reference) -> Array:
    """Position (3,) of the landmark nose_tip; the name the H3DS files use, nose, will do."""
    for name in _NOSE:
        if name in reference.landmarks:
            return reference.mesh.vertices[reference.landmarks[name]]
    raise InputError("the reference has no landmark nose_tip. Add `nose_tip INDEX` to landmarks.txt or a region.")


def _has_nose(reference: Reference) -> bool:
    return any(name in reference.landmarks for name in _NOSE)


def h3ds_score(
    predicted: Mesh, reference: Reference, *, mm_per_unit: float = 1.0, device: str = "cpu", backend: str | None = None,
    landmarks: Mapping[str, int] | None = None,
) -> H3dsScore:  # fmt: skip
    """Score by the package's steps. See the module's text for what its alignment absorbs.

    Args:
        landmarks: names to vertices of `predicted`, at least those of the reference: a similarity that fits them comes first, as
            in the package where they are given.
        device, backend: of the distances (`score.distances.nearest`).
    """
    region = face_region(reference, mm_per_unit)
    truth, vertices = reference.mesh.vertices, predicted.vertices
    if landmarks is not None:
        missing = sorted(set(reference.landmarks) - set(landmarks))
        if missing:
            raise InputError(f"the prediction's landmarks lack {missing}, which the reference has.")
        from trimesh.registration import procrustes

        pairs = [(vertices[landmarks[name]], truth[index]) for name, index in reference.landmarks.items()]
        motion, _, _ = procrustes(*(np.array(points) for points in zip(*pairs, strict=True)), reflection=False, scale=True)
        vertices = transform_points(motion, vertices)
    cloud = Cloud(vertices, device=device, backend=backend)
    raw, _ = cloud.nearest(truth[region])
    # scale and reflection are trimesh's defaults, which the package leaves as they are
    predicted_from_truth = icp(truth[region], cloud, scale=True, reflection=True)
    scale = 1.0 / scale_of(predicted_from_truth)
    # the package moves the prediction; moving the truth instead, and scaling its distances back, needs no second tree
    distance = cloud.nearest(transform_points(predicted_from_truth, truth))[0] * (abs(scale) * mm_per_unit)
    face = distance[region]
    return H3dsScore(
        float(face.mean()), float(np.percentile(face, 90)), float(distance.mean()), float(raw.mean() * mm_per_unit), float(scale)
    )


def metric_score(predicted: Mesh, reference: Reference, *, cameras: tuple[Camera, ...] = (), mm_per_unit: float = 1.0) -> MetricScore:
    """Score without moving anything. `cameras` are those of the photos that were used, for what is visible."""
    region = face_region(reference, mm_per_unit)
    truth = reference.mesh
    queries, normals, visible = _prepared(truth, cameras, _VISIBLE_MM / mm_per_unit)
    to_prediction = MeshQueries(predicted, signs=False).closest(torch.from_numpy(np.ascontiguousarray(truth.vertices)))
    distance = to_prediction.distance.numpy() * mm_per_unit
    to_truth = queries.closest(torch.from_numpy(np.ascontiguousarray(predicted.vertices)))
    back = to_truth.distance.numpy() * mm_per_unit
    if _has_nose(reference):
        near = np.linalg.norm(predicted.vertices - nose_tip(reference), axis=1) * mm_per_unit < FACE_RADIUS_MM
    else:
        of_face = np.all(np.isin(truth.faces, region), axis=1)
        near = of_face[to_truth.face.numpy()]
    reverse = back[near] if near.any() else np.array([np.nan])
    beside = Mesh(predicted.vertices, predicted.faces[to_prediction.face.numpy()[region]])  # of the face's vertices, the nearest faces
    cosine = (normals[region] * beside.face_normals).sum(1)
    return MetricScore(
        face_mm=float(distance[region].mean()),
        head_mm=float(distance.mean()),
        head_visible_mm=float(distance[visible].mean()) if visible.any() else float("nan"),
        head_unseen_mm=float(distance[~visible].mean()) if len(cameras) and not visible.all() else float("nan"),
        face_reverse_mm=float(reverse.mean()),
        head_reverse_mm=float(back.mean()),
        f1_1mm=f_score(distance[region], reverse, 1.0),
        f1_2mm=f_score(distance[region], reverse, 2.0),
        f1_5mm=f_score(distance[region], reverse, 5.0),
        normal_deg=float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean()),
        watertight=is_watertight(predicted),
    )


class _Prepared(NamedTuple):
    """What does not depend on the prediction: the surface, normals of its vertices, and which of them some camera sees."""

    queries: MeshQueries
    normals: Array
    visible: Array


@functools.lru_cache(maxsize=1)  # a subject's meshes are scored one after another
def _prepared(truth: Mesh, cameras: tuple[Camera, ...], tolerance: float) -> _Prepared:
    return _Prepared(MeshQueries(truth, signs=False), vertex_normals(truth), visible_vertices(truth, cameras, tolerance=tolerance))


def f_score(to_prediction: Array, to_truth: Array, within: float) -> float:
    """Harmonic mean of recall (true points that the prediction is near to) and precision (predicted points near the truth)."""
    recall, precision = float((to_prediction < within).mean()), float((to_truth < within).mean())
    return 2 * recall * precision / (recall + precision) if recall + precision > 0 else 0.0


def is_watertight(mesh: Mesh) -> bool:
    """Every edge belongs to two faces that run along it in opposite directions."""
    edges = mesh.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2).astype(np.int64)
    there = np.sort(edges[:, 0] * len(mesh.vertices) + edges[:, 1])
    back = np.sort(edges[:, 1] * len(mesh.vertices) + edges[:, 0])
    return bool((there[1:] != there[:-1]).all()) and np.array_equal(there, back)


def as_json(score: Any) -> dict[str, Any]:
    """A score as plain numbers, rounded to a micrometre; None for NaN, which JSON has not."""
    return {k: (round(v, 3) if math.isfinite(v) else None) if isinstance(v, float) else v for k, v in asdict(score).items()}
