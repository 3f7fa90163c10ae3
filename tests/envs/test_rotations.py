"""Unit quaternions are a group, matrices and rotation vectors its other faces."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from understudy.envs.arms.rotations import (
    quaternion_multiply,
    quaternion_to_matrix,
    quaternion_to_rotvec,
    rotvec_to_quaternion,
    yaw_quaternion,
)

IDENTITY = np.array([0.0, 0.0, 0.0, 1.0])
CONJUGATE = np.array([-1.0, -1.0, -1.0, 1.0])
vectors = st.tuples(*[st.floats(-1.0, 1.0)] * 3).map(np.array)
rotvecs = st.tuples(vectors, st.floats(0.0, 10.0)).map(lambda pair: pair[0] * pair[1])
quaternions = (
    st.tuples(*[st.floats(-1.0, 1.0)] * 4)
    .map(np.array)
    .filter(lambda q: np.linalg.norm(q) > 0.1)
    .map(lambda q: q / np.linalg.norm(q))
)


@given(quaternions, quaternions, quaternions)
def test_multiplication_is_a_group(a, b, c):
    assert_allclose(
        quaternion_multiply(quaternion_multiply(a, b), c), quaternion_multiply(a, quaternion_multiply(b, c)), atol=1e-12
    )
    assert_allclose(quaternion_multiply(a, IDENTITY), a, atol=1e-15)
    assert_allclose(quaternion_multiply(IDENTITY, a), a, atol=1e-15)
    assert_allclose(quaternion_multiply(a, a * CONJUGATE), IDENTITY, atol=1e-12)
    assert_allclose(np.linalg.norm(quaternion_multiply(a, b)), 1.0, atol=1e-12)


@given(quaternions, quaternions, vectors)
def test_matrices_are_rotations_and_multiply_like_quaternions(a, b, point):
    matrix = quaternion_to_matrix(a)
    assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert_allclose(np.linalg.det(matrix), 1.0, atol=1e-12)
    assert_allclose(quaternion_to_matrix(quaternion_multiply(a, b)), matrix @ quaternion_to_matrix(b), atol=1e-12)
    turned = quaternion_multiply(quaternion_multiply(a, np.append(point, 0.0)), a * CONJUGATE)
    assert_allclose(matrix @ point, turned[:3], atol=1e-12)


@given(rotvecs)
def test_logarithm_undoes_the_exponential_up_to_the_shortest_way(rotvec):
    quaternion = rotvec_to_quaternion(rotvec)
    assert_allclose(np.linalg.norm(quaternion), 1.0, atol=1e-12)
    back = quaternion_to_rotvec(quaternion)
    angle = np.linalg.norm(rotvec)
    assert np.linalg.norm(back) <= np.pi + 1e-12
    if angle < np.pi - 1e-6:
        assert_allclose(back, rotvec, atol=1e-10)
    assert_allclose(quaternion_to_matrix(rotvec_to_quaternion(back)), quaternion_to_matrix(quaternion), atol=1e-9)


@given(vectors, st.floats(-14.0, -3.0))
def test_tiny_turns_keep_their_digits(direction, exponent):
    rotvec = direction * 10.0**exponent
    assert_allclose(quaternion_to_rotvec(rotvec_to_quaternion(rotvec)), rotvec, rtol=1e-9, atol=1e-300)


@given(quaternions)
def test_a_quaternion_and_its_opposite_are_one_rotation(quaternion):
    assert_allclose(quaternion_to_matrix(quaternion), quaternion_to_matrix(-quaternion), atol=1e-15)
    if abs(quaternion[3]) > 1e-6:  # at half a turn both ways round are equally short
        assert_allclose(quaternion_to_rotvec(quaternion), quaternion_to_rotvec(-quaternion), atol=1e-12)


@given(vectors.filter(lambda axis: np.linalg.norm(axis) > 0.1), st.floats(-20.0, 20.0), vectors)
def test_the_exponential_turns_by_its_angle_about_its_axis(axis, angle, point):
    axis = axis / np.linalg.norm(axis)
    matrix = quaternion_to_matrix(rotvec_to_quaternion(axis * angle))
    rodrigues = (
        point * np.cos(angle) + np.cross(axis, point) * np.sin(angle) + axis * (axis @ point) * (1 - np.cos(angle))
    )
    assert_allclose(matrix @ point, rodrigues, atol=1e-12)


@given(st.lists(quaternions, min_size=1, max_size=5))
def test_stacks_are_computed_one_by_one(several):
    stack = np.array(several)
    assert_allclose(quaternion_to_rotvec(stack), [quaternion_to_rotvec(q) for q in several])
    assert_allclose(quaternion_to_matrix(stack), [quaternion_to_matrix(q) for q in several])
    assert_allclose(quaternion_multiply(stack, stack[0]), [quaternion_multiply(q, several[0]) for q in several])
    assert_allclose(rotvec_to_quaternion(stack[:, :3]), [rotvec_to_quaternion(q[:3]) for q in several], atol=1e-15)


def test_yaw_turns_x_towards_y():
    assert_allclose(quaternion_to_matrix(yaw_quaternion(np.pi / 2)) @ [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], atol=1e-15)
