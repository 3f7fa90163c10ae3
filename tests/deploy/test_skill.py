"""A skill file is refused, in one sentence, unless it is whole, plain and known; reading it runs nothing."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import stat
import subprocess
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deploy_support import PANDA, affine_onnx, manifest, statistics, write_tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from understudy.deploy.skill import (
    MANIFEST,
    MAX_BYTES,
    ONNX,
    STATISTICS,
    SUMS,
    KeyStatistics,
    SkillManifest,
    SkillRobot,
    check_robot,
    load_skill,
    write_skill,
)
from understudy.envs.arms.robot import RobotDescription
from understudy.errors import InputError, RobotMismatch

BAD_FILES = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


@pytest.fixture
def skill(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tiny.skill", 0.5)


def entries_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def with_sums(entries: dict[str, bytes]) -> dict[str, bytes]:
    rest = {name: data for name, data in entries.items() if name != SUMS}
    lines = [f"{hashlib.sha256(rest[name]).hexdigest()}  {name}\n" for name in sorted(rest)]
    return {**rest, SUMS: "".join(lines).encode()}


def rewrite(path: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def edited(path: Path, **changes: Any) -> Path:
    """The skill with some of skill.json's fields replaced and the checksums made anew."""
    entries = entries_of(path)
    data = {**json.loads(entries[MANIFEST]), **changes}
    return rewrite(path, with_sums({**entries, MANIFEST: json.dumps(data).encode()}))


def with_statistics(path: Path, arrays: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in arrays.items():
            archive.writestr(name, data)
    return rewrite(path, with_sums({**entries_of(path), STATISTICS: buffer.getvalue()}))


def npy(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


# what is written is read


def test_what_is_written_is_read(tmp_path: Path) -> None:
    made, graph, measured = manifest(), b"any bytes: loading does not open the graph", statistics()
    read = load_skill(write_skill(tmp_path / "a.skill", made, graph, b"script", measured))
    assert read.manifest == made
    assert read.onnx == graph
    assert set(read.statistics) == set(measured)
    np.testing.assert_array_equal(read.statistics["tool_position"].high, measured["tool_position"].high)


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    first, second = write_tiny(tmp_path / "a.skill", 0.1), write_tiny(tmp_path / "b.skill", 0.1)
    assert first.read_bytes() == second.read_bytes()


def test_sha256sum_agrees(skill: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(skill) as archive:
        archive.extractall(tmp_path)
    subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=tmp_path, check=True, capture_output=True)


def test_writing_replaces_or_leaves_alone(skill: Path) -> None:
    before = skill.read_bytes()
    wrong = {"tool_position": KeyStatistics.of(np.zeros((5, 2)))}
    with pytest.raises(InputError, match=r"tool_position\.mean\.npy is float64 of shape \(2,\), expected .* \(3,\)"):
        write_skill(skill, manifest(), b"x", None, wrong)
    assert skill.read_bytes() == before
    assert [path.name for path in skill.parent.iterdir()] == [skill.name]


def test_the_name_ends_in_skill(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"called NAME\.skill, got 'a\.zip'|ends in \.skill, got 'a\.zip'"):
        write_skill(tmp_path / "a.zip", manifest(), b"x", None, {})


# whatever else is refused


def unchanged_or_refused(path: Path, whole: bytes) -> None:
    """A damaged file is refused, or the damage touched nothing that is read (dates, padding)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read = load_skill(path)
        except InputError as error:
            if str(path) not in str(error):
                pytest.fail(f"the error does not name the file: {error}")
            return
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        assert read.onnx == archive.read(ONNX)
        assert read.manifest == SkillManifest.model_validate_json(archive.read(MANIFEST))


@BAD_FILES
@given(data=st.data())
def test_flipped_bytes(skill: Path, data: st.DataObject) -> None:
    whole = skill.read_bytes()
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    target = skill.with_name("damaged.skill")
    target.write_bytes(bytes(damaged))
    unchanged_or_refused(target, whole)


@BAD_FILES
@given(data=st.data())
def test_truncated(skill: Path, data: st.DataObject) -> None:
    whole = skill.read_bytes()
    target = skill.with_name("damaged.skill")
    target.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(InputError, match=r"damaged\.skill"):
        load_skill(target)


@BAD_FILES
@given(junk=st.binary(max_size=400))
def test_anything(tmp_path: Path, junk: bytes) -> None:
    target = tmp_path / "junk.skill"
    target.write_bytes(junk)
    with pytest.raises(InputError, match=r"junk\.skill"):
        load_skill(target)


@BAD_FILES
@given(text=st.one_of(st.text(max_size=60), st.sampled_from(["[" * 5000, "{}", "[]", "null", "1e999", '{"a":NaN}'])))
def test_manifests_of_junk(skill: Path, text: str) -> None:
    whole = entries_of(skill)
    target = skill.with_name("junk.skill")
    rewrite(target, with_sums({**whole, MANIFEST: text.encode("utf-8", "surrogatepass")}))
    with pytest.raises(InputError, match=r"junk\.skill"):
        load_skill(target)


def test_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.skill does not exist; `understudy export"):
        load_skill(tmp_path / "none.skill")


@pytest.mark.parametrize("name", ["../evil.py", "/etc/passwd", "policy.pkl", "skill.json/", "a/policy.onnx", "C:\\x"])
def test_names_that_a_skill_does_not_have(skill: Path, name: str) -> None:
    rewrite(skill, {**entries_of(skill), name: b"x"})
    with pytest.raises(InputError, match=r"holds .*which a skill does not have|entry twice"):
        load_skill(skill)


def test_an_entry_twice(skill: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with zipfile.ZipFile(skill, "a") as archive:
            archive.writestr(ONNX, b"another policy")
    with pytest.raises(InputError, match="holds an entry twice"):
        load_skill(skill)


@pytest.mark.parametrize("name", sorted(set(MAX_BYTES) - {"policy.torchscript"}))
def test_a_missing_entry(skill: Path, name: str) -> None:
    entries = entries_of(skill)
    del entries[name]
    rewrite(skill, entries)
    with pytest.raises(InputError, match=f"lacks {name}"):
        load_skill(skill)


def test_a_link(skill: Path) -> None:
    entries = entries_of(skill)
    with zipfile.ZipFile(skill, "w") as archive:
        for name, data in entries.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = ((stat.S_IFLNK if name == ONNX else stat.S_IFREG) | 0o644) << 16
            archive.writestr(info, data)
    with pytest.raises(InputError, match=r"policy\.onnx is no plain file"):
        load_skill(skill)


def test_a_compressed_bomb(skill: Path) -> None:
    entries = {**entries_of(skill), ONNX: b"\0" * (20 << 20)}
    rewrite(skill, with_sums(entries), zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="is compressed; a skill's entries are stored"):
        load_skill(skill)


def test_a_too_large_entry(skill: Path) -> None:
    entries = {**entries_of(skill), MANIFEST: b" " * (MAX_BYTES[MANIFEST] + 1)}
    rewrite(skill, with_sums(entries))
    with pytest.raises(InputError, match=r"skill\.json has 1048577 bytes; at most 1048576"):
        load_skill(skill)


def test_overlapping_entries(skill: Path) -> None:
    """Two directory entries that share one body declare more content than there is file (a quine-style bomb)."""
    body = b"a" * 2000
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in (ONNX, MANIFEST, STATISTICS, SUMS):
            archive.writestr(name, body if name == ONNX else b"")
    raw = buffer.getvalue()
    directory = raw.index(b"PK\x01\x02")
    forged = bytearray(raw)
    at = directory
    while forged[at : at + 4] == b"PK\x01\x02":
        length = int.from_bytes(forged[at + 28 : at + 30], "little")
        forged[at + 20 : at + 28] = (2000).to_bytes(4, "little") * 2
        at += 46 + length
    skill.write_bytes(bytes(forged))
    with pytest.raises(InputError, match=r"declares 8000 bytes of content in \d+ bytes of file"):
        load_skill(skill)


def test_edited_content(skill: Path) -> None:
    rewrite(skill, {**entries_of(skill), ONNX: b"another policy"})
    with pytest.raises(
        InputError, match=r"policy\.onnx does not match its checksum, so the file was damaged or edited"
    ):
        load_skill(skill)


@pytest.mark.parametrize("version", [0, 2, "1", None, 1.0, True])
def test_unknown_schema_versions(skill: Path, version: Any) -> None:
    with pytest.raises(InputError, match=r"schema version .* is not readable by this software, which reads version 1"):
        load_skill(edited(skill, schema_version=version))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"extra": 1}, "Unknown key 'extra'"),
        ({"execute": 9}, "execute is 9, above the chunk of 2"),
        ({"horizon": 0}, "horizon: Input should be greater than or equal to 1"),
        ({"name": "../../x"}, "name: String should match pattern"),
        ({"observations": []}, "at least one"),
        ({"observations": [{"key": "jont_position", "shape": [7], "max_age_s": 1.0}]}, "did you mean 'joint_position'"),
        ({"action_spec": {"name": "x"}}, r"action_spec: fields \['name'\]"),
        ({"robot": {}}, "robot.name is missing"),
    ],
)
def test_wrong_manifests(skill: Path, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        load_skill(edited(skill, **changes))


class Explosive:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was run",))


def test_pickled_statistics(skill: Path) -> None:
    array = npy(np.array([Explosive()] * 3, object), allow_pickle=True)
    assert b"pytest" in array
    fields = {f"tool_position.{name}.npy": array for name in ("mean", "std", "low", "high")}
    with pytest.raises(InputError, match=r"is object of shape \(3,\), expected float64"):
        load_skill(with_statistics(skill, fields))


def test_a_bare_pickle_as_statistics(skill: Path) -> None:
    whole = {**entries_of(skill), STATISTICS: pickle.dumps(Explosive())}
    with pytest.raises(InputError, match=r"not a readable skill .*BadZipFile"):
        load_skill(rewrite(skill, with_sums(whole)))


def test_statistics_that_claim_to_be_huge(skill: Path) -> None:
    small = npy(np.zeros(3))
    huge = small.replace(b"'shape': (3,), }        ", b"'shape': (300000000,), }")
    assert huge != small
    with pytest.raises(InputError, match=r"shape \(300000000,\), expected float64 of shape \(3,\)"):
        load_skill(with_statistics(skill, {"tool_position.mean.npy": huge}))


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"../x.mean.npy": np.zeros(3)}, "belongs to no observation"),
        ({"object_position.mean.npy": np.zeros(3)}, "belongs to no observation"),
        ({"tool_position.mean.npy": np.zeros(3)}, r"has \['mean'\], expected"),
        ({"tool_position.mean.npy": np.array([0, np.nan, 0])}, "not finite"),
    ],
)
def test_wrong_statistics(skill: Path, arrays: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        load_skill(with_statistics(skill, {name: npy(array) for name, array in arrays.items()}))


def test_compressed_statistics(skill: Path) -> None:
    arrays = {"tool_position.mean.npy": npy(np.zeros(3))}
    with pytest.raises(InputError, match="is compressed or too large"):
        load_skill(with_statistics(skill, arrays, zipfile.ZIP_DEFLATED))


# the robot


def changed(robot: RobotDescription = PANDA, joint: int | None = None, **changes: Any) -> RobotDescription:
    if joint is None:
        return robot.model_copy(update=changes)
    joints = list(robot.joints)
    joints[joint] = joints[joint].model_copy(update=changes)
    return robot.model_copy(update={"joints": tuple(joints)})


def test_the_same_robot_fits_whatever_it_is_called() -> None:
    check_robot(manifest(), PANDA)
    check_robot(manifest(), changed(name="cell_3"))


def test_wider_limits_fit() -> None:
    check_robot(manifest(changed(joint=2, lower=-1.0, velocity=1.0)), PANDA)


@pytest.mark.parametrize(
    ("robot", "text"),
    [
        (changed(joint=3, name="elbow"), "names differ: joint 4 is 'panda_joint4' in the skill, 'elbow' on the robot"),
        (changed(joints=PANDA.joints[::-1]), "order differs: joint 1 is 'panda_joint1' in the skill, 'panda_joint7'"),
        (changed(joints=PANDA.joints[:6]), "7 joints .* in the skill, 6 "),
        (changed(joint=1, upper=1.0), "'panda_joint2': upper limit 1.8326 rad in the skill, 1 rad here"),
        (changed(joint=1, lower=-1.0), "'panda_joint2': lower limit -1.8326 rad in the skill, -1 rad here"),
        (changed(joint=0, velocity=1.5), "'panda_joint1': speed 2.175 rad/s in the skill, 1.5 rad/s here"),
        (changed(rate_hz=50.0), "control rate 20 Hz in the skill, 50 Hz on the robot"),
        (changed(tool_frame="panda_hand"), "tool frame 'panda_grasptarget' in the skill, 'panda_hand' on the robot"),
        (changed(gripper=None), "gripper opening 0.08 m in the skill, none on the robot"),
    ],
)
def test_another_robot_is_refused_with_both_values(robot: RobotDescription, text: str) -> None:
    with pytest.raises(RobotMismatch, match=text):
        check_robot(manifest(), robot)


def test_units_are_compared() -> None:
    made = manifest()
    joints = tuple(joint.model_copy(update={"unit": "deg"}) for joint in made.robot.joints)
    made = made.model_copy(update={"robot": made.robot.model_copy(update={"joints": joints})})
    with pytest.raises(RobotMismatch, match="joint 'panda_joint1' is in 'deg' in the skill, in 'rad' on the robot"):
        check_robot(made, PANDA)


def test_every_difference_is_named_at_once() -> None:
    other = changed(changed(joint=0, velocity=1.5), rate_hz=10.0, tool_frame="panda_hand")
    with pytest.raises(RobotMismatch, match=r"speed 2\.175.*; control rate 20 Hz.*; tool frame"):
        check_robot(manifest(), other)


def test_narrower_limits_can_be_accepted() -> None:
    slow = changed(joint=0, velocity=1.5)
    check_robot(manifest(), slow, allow_narrower_limits=True)
    with pytest.raises(RobotMismatch, match="control rate"):
        check_robot(manifest(), changed(slow, rate_hz=10.0), allow_narrower_limits=True)


def test_cameras_are_compared() -> None:
    field = {"key": "image_front", "max_age_s": 1.0}
    check_robot(manifest(observations=({**field, "shape": (120, 160, 3)},)), PANDA)
    with pytest.raises(
        RobotMismatch, match=r"camera 'front' is \(64, 64, 3\) in the skill, \(120, 160, 3\) on the robot"
    ):
        check_robot(manifest(observations=({**field, "shape": (64, 64, 3)},)), PANDA)
    wrist = ({**field, "key": "image_wrist", "shape": (8, 8, 3)},)
    with pytest.raises(RobotMismatch, match=r"camera 'wrist' is needed by the skill, the robot has \['front'\]"):
        check_robot(manifest(observations=wrist), PANDA)


def test_the_manifest_remembers_the_robot() -> None:
    assert SkillRobot.of(PANDA).joints[3].lower == PANDA.joints[3].lower
    assert affine_onnx(manifest(), np.zeros(8))
