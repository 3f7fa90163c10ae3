"""A robot's YAML file with the line of each key, so that what is wrong with an entry can say where it stands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from understudy.envs.arms.findings import Finding, RobotFault, refuse


class YamlLines:
    """What a YAML file says, and where."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            RobotFault: it is not readable as YAML, or has a key twice; says on which line.
        """
        self._path = path
        try:
            loader = yaml.SafeLoader(path.read_text())
            self._root: yaml.Node | None = loader.get_single_node()
            repeats = list(self._repeats(self._root, set()))  # first: constructing moves merged keys into the nodes
            self.data: Any = None if self._root is None else loader.construct_document(self._root)
            """What `yaml.safe_load` gives."""
        except (yaml.YAMLError, OSError, ValueError, RecursionError) as error:
            fault = self._unreadable(error)
            raise RobotFault(f"{fault}.", [fault]) from error
        refuse(repeats, path)

    def at(self, *keys: str | int) -> str:
        """`file:line` of an entry, or of the nearest one above it that is there."""
        node, line = self._root, 1
        for key in keys:
            below = _entry(node, key)
            if below is None:
                break
            line, node = below
        return f"{self._path}:{line}"

    def _unreadable(self, error: Exception) -> Finding:
        where, told = str(self._path), " ".join(str(error).split())
        if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
            where = f"{where}:{error.problem_mark.line + 1}"
            told = ", ".join(part for part in (error.context, error.problem) if part)
        remedy = "indent with spaces" if "'\\t'" in told else "mend it"
        return Finding("YAML", "error", where, f"not readable as YAML: {told}", remedy)

    def _repeats(self, node: yaml.Node | None, seen: set[int]) -> Iterator[Finding]:
        """Keys that a mapping has twice, of which YAML would quietly take the last."""
        if node is None or id(node) in seen:
            return
        seen.add(id(node))  # an anchor is met once for each of its aliases
        if isinstance(node, yaml.SequenceNode):
            for below in node.value:
                yield from self._repeats(below, seen)
        elif isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, below in node.value:
                line = key.start_mark.line + 1
                if isinstance(key, yaml.ScalarNode) and key.value in lines:
                    yield Finding(
                        "YAML", "error", f"{self._path}:{line}",
                        f"{key.value!r} is there already, at line {lines[key.value]}", "keep one",
                    )  # fmt: skip
                elif isinstance(key, yaml.ScalarNode):
                    lines[key.value] = line
                yield from self._repeats(below, seen)


def _entry(node: yaml.Node | None, key: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for name, value in reversed(node.value):  # what is merged in comes first
            if name.value == key:
                return name.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key].start_mark.line + 1, node.value[key]
    return None
