"""What is written to a ``model.toml`` is what is read from it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudreg.errors import InvalidRequest
from cloudreg.importers import Description, modelfile
from cloudreg.manifest import Lineage, ModelCard, Runtime, Signature, TensorSpec

text = st.text(st.characters(exclude_categories=("Cs",)), max_size=40) | st.text(
    st.sampled_from("\"\\\n\r\t'#=[]{}\x00\x1f\x7f\x85\u2028é𝄞 "), max_size=12
)
scalars = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(text, values | st.dictionaries(text, values, max_size=4), max_size=5))
def test_any_document(document: dict[str, Any]) -> None:
    """Whatever JSON without null can say comes back equal, types included."""
    read = tomllib.loads(modelfile.dumps(document))

    assert read == document
    assert _types(read) == _types(document)


@settings(deadline=None, max_examples=50)
@given(
    card=st.builds(ModelCard, **dict.fromkeys(ModelCard.__dataclass_fields__, text)),
    arguments=st.dictionaries(text, values, max_size=4),
    labels=st.dictionaries(text, text, max_size=4),
)
def test_any_description(
    tmp_path_factory: pytest.TempPathFactory,
    card: ModelCard,
    arguments: dict[str, Any],
    labels: dict[str, str],
) -> None:
    """A description that is written is the description that is read."""
    path = tmp_path_factory.mktemp("described") / "model.toml"
    said = Description(
        runtime=Runtime(
            kind="torch", entrypoint="m:f", arguments=arguments, weights="m.safetensors"
        ),
        signature=Signature(
            inputs=(TensorSpec(name="x", dtype="float32", shape=(-1, 30)),),
            outputs=(TensorSpec(name="y", dtype="int64", shape=(-1,)),),
        ),
        lineage=Lineage(seed=0, git_dirty=False, parameters=arguments),
        metrics={"auc": 0.1 + 0.2, "n": 1e300},
        card=card,
        labels=labels,
    )

    modelfile.write(said, path)

    assert modelfile.read(path) == said


def test_long_text_stays_legible() -> None:
    """Text of several lines is written as several lines."""
    written = modelfile.dumps({"card": {"limits": 'one\n"two" \\ three\n'}})

    assert written == '[card]\nlimits = """\none\n\\"two\\" \\\\ three\n"""\n'


def test_nothing_said(tmp_path: Path) -> None:
    """A description of nothing is an empty file."""
    modelfile.write(Description(), tmp_path / "model.toml")

    assert (tmp_path / "model.toml").read_text().strip() == ""
    assert modelfile.read(tmp_path / "model.toml") == Description()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"a": {"b": [1, None]}}, r"a\.b\[1\] is None"),
        ({"a": {"b": {"c": object()}}}, r"a\.b\.c: object has no word in TOML"),
        ({"a": "\ud800"}, "cannot be written as UTF-8"),
        ({"a": {1: 2}}, "key 1 is not a string"),
    ],
)
def test_what_toml_cannot_say(value: dict[str, Any], reason: str) -> None:
    """A value that TOML has no word for is refused with its place."""
    with pytest.raises(InvalidRequest, match=reason):
        modelfile.dumps(value)


def _types(value: object) -> object:
    if isinstance(value, dict):
        return {key: _types(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_types(item) for item in value]
    return type(value)
