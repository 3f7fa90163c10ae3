"""What a page may say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.capture.console.connection import plain
from understudy.capture.console.messages import Input, Wished, read_message
from understudy.errors import InputError

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def test_an_input_and_a_wish() -> None:
    said = read_message('{"do": "input", "axes": {"x": -1, "yaw": 0.5}, "gripper": 0.04, "moving": true}')
    assert said == Input(do="input", axes={"x": -1.0, "yaw": 0.5}, gripper=0.04, moving=True)
    assert read_message('{"do": "wish", "n": 3, "wish": "keep"}') == Wished(do="wish", n=3, wish="keep", text="")


@pytest.mark.parametrize(
    ("message", "where"),
    [
        ({"do": "input", "axes": {"x": 1.01}}, r"axes\.x"),
        ({"do": "input", "axes": {"x": "1"}}, r"axes\.x"),
        ({"do": "input", "axes": {f"a{i}": 0.0 for i in range(33)}}, "axes"),
        ({"do": "input", "axes": {"x" * 65: 0.0}}, "axes"),
        ({"do": "input", "axes": {}, "gripper": -0.1}, "gripper"),
        ({"do": "input", "axes": {}, "speed": 9}, "speed"),
        ({"do": "input", "axes": {}, "said_s": -1.0}, "said_s"),
        ({"do": "wish", "n": 1, "wish": "explode"}, "wish"),
        ({"do": "wish", "n": -1, "wish": "keep"}, r"wish\.n"),
        ({"do": "wish", "n": 1, "wish": "note", "text": "x" * 501}, "text"),
        ({"do": "label", "n": 1, "episode": "x", "success": "yes"}, "success"),
        ({"do": "drop_episode", "n": 1, "episode": ""}, "episode"),
        ({"do": "hello", "page": "x" * 65}, "page"),
        ({"do": "sudo", "n": 1}, "the message"),
        ([], "the message"),
    ],
)
def test_everything_else_is_refused_by_name(message: Any, where: str) -> None:
    with pytest.raises(InputError, match=f"does not understand .*{where}"):
        read_message(json.dumps(message))


@pytest.mark.parametrize(
    "text", ["", "{", "NaN", '{"do": "input", "axes": {"x": NaN}}', '{"do": "input", "axes": {"x": 1e999}}']
)
def test_what_is_no_json_or_no_number_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="does not understand"):
        read_message(text)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(JSON)
def test_no_json_that_is_no_message_gets_through_and_none_breaks_it(value: Any) -> None:
    """Hypothesis does not hit upon a message by chance: it would have to name its kind."""
    with pytest.raises(InputError, match="does not understand"):
        read_message(json.dumps(value))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(JSON)
def test_what_is_sent_is_json_that_every_browser_reads(value: Any) -> None:
    json.dumps(plain(value), allow_nan=False)
