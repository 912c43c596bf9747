"""Cutting meshes: sub-meshes, closing holes, cutting by a plane, dropping hidden surface."""

from __future__ import annotations

import numpy as np

from avatar_kit.types import Array, Mesh


def without_unused(mesh: Mesh) -> Mesh:
    """The mesh without vertices that no face uses."""
    used, faces = np.unique(mesh.faces, return_inverse=True)
    colors = None if mesh.colors is None else mesh.colors[used]
    return Mesh(mesh.vertices[used], faces.reshape(-1, 3).astype(np.int32), colors)


def boundary_loops(faces: Array) -> list[Array]:
    """Closed walks along the edges that belong to one face, each in the order that closes the hole outwards.

    Args:
        faces: (F, 3), consistently wound.

    Returns:
        vertex indices of each loop; walks that do not close (non-manifold vertices) are left out.
    """
    edges = faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    keys = {tuple(edge) for edge in edges.tolist()}
    following: dict[int, int] = {b: a for a, b in keys if (b, a) not in keys}
    loops = []
    while following:
        start, current = following.popitem()
        loop = [start]
        while current != start and current in following:
            loop.append(current)
            current = following.pop(current)
        if current == start and len(loop) >= 3:
            loops.append(np.array(loop))
    return loops


def fan_caps(vertex_count: int, loops: list[Array]) -> tuple[list[Array], Array]:
    """Fans that close `loops`: the loops (their means become new vertices) and the new faces (N, 3)."""
    faces = [np.stack([loop, np.roll(loop, -1), np.full(len(loop), vertex_count + i)], axis=1) for i, loop in enumerate(loops)]
    return loops, np.concatenate(faces).astype(np.int32) if faces else np.zeros((0, 3), np.int32)


def with_cap_vertices(vertices: Array, loops: list[Array]) -> Array:
    """`vertices` followed by the mean of each loop, as the faces of `fan_caps` expect."""
    return np.concatenate([vertices, *[vertices[loop].mean(0, keepdims=True) for loop in loops]])


def close_holes(mesh: Mesh) -> Mesh:
    """Close every boundary loop with a fan around its mean."""
    loops, caps = fan_caps(len(mesh.vertices), boundary_loops(mesh.faces))
    return Mesh(with_cap_vertices(mesh.vertices, loops), np.concatenate([mesh.faces, caps]).astype(np.int32))


def cut_by_plane(mesh: Mesh, point: Array, normal: Array) -> Mesh:
    """Keep the side of the plane that `normal` (3,) points to and close the cut.

    Returns an empty mesh when nothing is left.
    """
    from trimesh import Trimesh
    from trimesh.intersections import slice_faces_plane

    if (np.dot(mesh.vertices - point, normal) > 0).all():
        return mesh
    vertices, faces, _ = slice_faces_plane(mesh.vertices, mesh.faces, plane_normal=normal, plane_origin=point)
    if len(faces) == 0:
        return Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int32))
    merged = Trimesh(vertices, faces, process=True)  # the cut leaves a vertex of its own to each face
    return close_holes(Mesh(np.asarray(merged.vertices), np.asarray(merged.faces, np.int32)))


def simplified(mesh: Mesh, faces: int) -> Mesh:
    """The mesh with at most about `faces` triangles, by quadric edge collapse; a smaller mesh is returned as it is."""
    if len(mesh.faces) <= faces:
        return mesh
    import fast_simplification

    vertices, kept = fast_simplification.simplify(  # pyright: ignore[reportAssignmentType]
        np.ascontiguousarray(mesh.vertices, np.float64), np.ascontiguousarray(mesh.faces, np.int32), target_count=faces
    )
    return Mesh(np.asarray(vertices), np.asarray(kept, np.int32))
