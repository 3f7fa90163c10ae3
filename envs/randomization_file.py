"""Randomization files: YAML of `parameter: {shape: [numbers]}`, read strictly, and written back.

    object_mass_scale: {log_uniform: [0.5, 2.0]}
    table_texture: {choice: [0, 3, 5]}

What is wrong in a file is said with its line.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from understudy.envs.distributions import SHAPES, AnyDistribution, Choice, Distribution
from understudy.envs.parameters import RANDOMIZABLE
from understudy.errors import InputError, unknown_name


def read_distributions(path: Path) -> tuple[dict[str, AnyDistribution], dict[str, str]]:
    """(parameter -> distribution, parameter -> "file, line n") of a file.

    Raises:
        InputError: it cannot be read, or is not of the form above; names file and line.
    """
    if not path.is_file():
        raise InputError(f"Randomization file {path} does not exist.")
    try:
        node = yaml.compose(path.read_text(), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        told = ", ".join(part for part in (error.context, error.problem) if part)
        raise InputError(f"{path}{line}: not readable as YAML: {told}; mend it there.") from error
    except (yaml.YAMLError, OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(node, yaml.MappingNode):
        got = "nothing" if node is None else "a list" if isinstance(node, yaml.SequenceNode) else f"{node.value!r}"
        raise InputError(f"{path}: expected a mapping of parameters, got {got}.")
    distributions: dict[str, AnyDistribution] = {}
    where: dict[str, str] = {}
    for key, value in node.value:
        line = f"{path}, line {key.start_mark.line + 1}"
        name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
        if name in distributions:
            raise InputError(f"{line}: {name!r} is there already, at {where[name].rpartition(', ')[2]}; keep one.")
        if name not in RANDOMIZABLE:
            raise InputError(f"{line}: {unknown_name('parameter', name, RANDOMIZABLE)}")
        distributions[name], where[name] = _distribution(line, name, value), line
    return distributions, where


def write_distributions(path: Path, distributions: Mapping[str, AnyDistribution], comments: Mapping[str, str]) -> None:
    """Write a file that `read_distributions` reads; `comments` by parameter, and of the whole file under "".

    Raises:
        InputError: the folder does not exist.
    """
    if not path.parent.is_dir():
        raise InputError(f"Cannot write {path}: the folder {path.parent} does not exist.")
    lines = [f"# {line}" for line in comments.get("", "").splitlines()]
    for name, distribution in distributions.items():
        lines += [f"# {line}" for line in comments.get(name, "").splitlines()]
        shape = "choice" if isinstance(distribution, Choice) else distribution.shape
        numbers = distribution.values if isinstance(distribution, Choice) else (distribution.first, distribution.second)
        lines.append(f"{name}: {{{shape}: [{', '.join(map(repr, numbers))}]}}")
    path.write_text("\n".join(lines) + "\n")


def _distribution(line: str, name: str, node: yaml.Node) -> AnyDistribution:
    if isinstance(node, yaml.MappingNode) and len(node.value) == 1:
        key, value = node.value[0]
        shape = key.value if isinstance(key, yaml.ScalarNode) else None
        numbers = _numbers(value)
        if shape == "choice" and numbers:
            return Choice(tuple(numbers))
        for known in SHAPES:
            if shape == known and numbers is not None and len(numbers) == 2:
                return Distribution(known, numbers[0], numbers[1])
    written = " ".join(yaml.serialize(node).split()).removesuffix(" ...")
    raise InputError(
        f"{line}: {name}: expected one of {', '.join(SHAPES)} with two numbers, or choice with some, got {written}; "
        f"for example {name}: {{{_example(name)}}}"
    )


def _example(name: str) -> str:
    nominal = RANDOMIZABLE[name].nominal
    if RANDOMIZABLE[name].whole:
        return "choice: [0, 3, 5]"
    return f"uniform: [{0.8 * nominal:g}, {1.2 * nominal:g}]" if nominal else "uniform: [0, 0.01]"


def _numbers(node: yaml.Node) -> list[float] | None:
    """The plain numbers of a YAML list; None where it is none, or holds something else."""
    if not isinstance(node, yaml.SequenceNode):
        return None
    numbers = []
    for part in node.value:
        # YAML 1.1 takes 1e-3 for a text: it wants 1.0e-3, which nobody knows
        plain = isinstance(part, yaml.ScalarNode) and part.style is None
        if not plain or part.tag not in _NUMBER_TAGS:
            return None
        try:
            numbers.append(float(part.value.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan")))
        except ValueError:
            return None
    return numbers


_NUMBER_TAGS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:str")
