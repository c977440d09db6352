"""A folder becomes a source: everything meant, nothing hidden, every refusal with its name."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from cloudreg.errors import InvalidRequest, NotFound
from cloudreg.importers import Description, directory
from cloudreg.manifest import Lineage, ModelCard, Runtime, Signature, TensorSpec

WHOLE = """
[runtime]
kind = "torch"
entrypoint = "churn_model:build"
arguments = {hidden = 16, layers = [1, 2], name = "a"}
weights = "weights/model.safetensors"

[signature]
inputs = [{name = "x", dtype = "float32", shape = [-1, 30]}]
outputs = [{name = "probability", dtype = "float32", shape = [-1]}]

[metrics]
val_auc = 0.91
epochs = 3

[card]
intended_use = '''
Calls before the contract ends.

- not for prices
'''
limits = "Only Europe."

[labels]
team = "growth"

[lineage]
git_commit = "0123456789012345678901234567890123456789"
git_dirty = false
seed = 7
parameters = {lr = 0.1}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one file of weights."""
    made = tmp_path / "model"
    (made / "weights").mkdir(parents=True)
    (made / "weights" / "model.safetensors").write_bytes(b"12345")
    return made


@pytest.fixture
def refused(folder: Path) -> Callable[[str], InvalidRequest]:
    """Read the folder with this ``model.toml``, and return the refusal."""

    def read(text: str) -> InvalidRequest:
        (folder / "model.toml").write_text(text)
        with pytest.raises(InvalidRequest) as caught:
            directory.read(folder)
        return caught.value

    return read


def test_files(folder: Path) -> None:
    """All regular files are found, sorted by path, with size and time."""
    (folder / "b.txt").write_bytes(b"")
    (folder / "a.txt").write_bytes(b"1")

    source = directory.read(folder)

    assert [(f.path, f.size) for f in source.files] == [
        ("a.txt", 1),
        ("b.txt", 0),
        ("weights/model.safetensors", 5),
    ]
    assert source.files[0].mtime_ns == (folder / "a.txt").stat().st_mtime_ns
    assert source.files[0].location.read_bytes() == b"1"
    assert source.description == Description()


def test_junk_is_left_out(folder: Path) -> None:
    """What version control and tools leave behind is not registered."""
    for name in (".git", "__pycache__", ".ipynb_checkpoints"):
        (folder / "weights" / name).mkdir()
        (folder / "weights" / name / "x").write_text("x")
    (folder / ".DS_Store").write_text("x")
    (folder / ".hidden").write_text("meant")

    assert [f.path for f in directory.read(folder).files] == [
        ".hidden",
        "weights/model.safetensors",
    ]


def test_single_file(folder: Path) -> None:
    """A file stands for a folder of one, whatever it is called."""
    lone = folder / "model.toml"
    lone.write_text("not read at all [")

    source = directory.read(lone)

    assert [(f.path, f.location) for f in source.files] == [("model.toml", lone.resolve())]


def test_linked_folder(folder: Path, tmp_path: Path) -> None:
    """The folder that the caller names may itself be a link."""
    (tmp_path / "latest").symlink_to(folder)

    assert len(directory.read(tmp_path / "latest").files) == 1


def test_missing(tmp_path: Path) -> None:
    """A name of nothing is not found."""
    with pytest.raises(NotFound, match="nowhere"):
        directory.read(tmp_path / "nowhere")


def test_neither_folder_nor_file(tmp_path: Path) -> None:
    """A FIFO cannot be registered, and is not opened to find out."""
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(NotFound, match="neither a folder nor a file"):
        directory.read(tmp_path / "pipe")


@pytest.mark.parametrize("content", [(), (".git",), ("model.toml",), ("sub/",)])
def test_empty(tmp_path: Path, content: tuple[str, ...]) -> None:
    """A folder without a file of its own is refused."""
    for name in content:
        path = tmp_path / name
        path.mkdir() if name.endswith("/") else path.write_text("")

    with pytest.raises(InvalidRequest, match="holds no file to register"):
        directory.read(tmp_path)


def test_links_are_refused(folder: Path) -> None:
    """A link is refused by its name, wherever it leads."""
    (folder / "weights" / "other").symlink_to("model.safetensors")

    with pytest.raises(InvalidRequest, match="'weights/other' is a symbolic link"):
        directory.read(folder)


def test_linked_subfolder_is_refused(folder: Path, tmp_path: Path) -> None:
    """A link to a folder is not followed out of the folder."""
    (tmp_path / "outside").mkdir()
    (folder / "more").symlink_to(tmp_path / "outside")

    with pytest.raises(InvalidRequest, match="'more' is a symbolic link"):
        directory.read(folder)


def test_broken_link_is_refused(folder: Path) -> None:
    """A link to nothing is a link."""
    (folder / "gone").symlink_to("nowhere")

    with pytest.raises(InvalidRequest, match="'gone' is a symbolic link"):
        directory.read(folder)


def test_fifo_and_socket_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no regular file is refused by its name, without being opened."""
    os.mkfifo(folder / "pipe")
    with pytest.raises(InvalidRequest, match="'pipe' is a FIFO"):
        directory.read(folder)
    (folder / "pipe").unlink()
    # A socket's address is short: it is bound from inside the folder.
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("sock")
        with pytest.raises(InvalidRequest, match="'sock' is a socket"):
            directory.read(folder)


@pytest.mark.parametrize(
    "name", ["a%2e", "a:b", "back\\slash", "tab\tname", " lead", "\u212bngstrom", "zero\u200bwidth"]
)
def test_unsafe_names(folder: Path, name: str) -> None:
    """A name that is not safe on every disk is refused."""
    (folder / name).write_text("x")

    with pytest.raises(InvalidRequest, match="file path"):
        directory.read(folder)


def test_undecodable_name(folder: Path) -> None:
    """A name that is no UTF-8 is refused, not mangled."""
    (folder / os.fsdecode(b"caf\xe9")).write_text("x")

    with pytest.raises(InvalidRequest, match="file path"):
        directory.read(folder)


def test_reserved_folder(folder: Path) -> None:
    """The folder that keeps the manifest is not the user's."""
    (folder / ".cloudreg").mkdir()
    (folder / ".cloudreg" / "manifest.json").write_text("{}")

    with pytest.raises(InvalidRequest, match="reserved"):
        directory.read(folder)


def test_folding_names(folder: Path) -> None:
    """Two names that are one file on some disks are refused before anything is stored."""
    (folder / "README").write_text("a")
    (folder / "readme").write_text("b")

    with pytest.raises(InvalidRequest, match="one file on some disks"):
        directory.read(folder)


def test_deep_folders(tmp_path: Path) -> None:
    """Nesting beyond what a path may be long is refused, not crashed on."""
    deep = tmp_path
    for _ in range(250):
        deep /= "d"
    deep.mkdir(parents=True)
    (deep / "x").write_text("x")

    with pytest.raises(InvalidRequest, match="file path"):
        directory.read(tmp_path)


def test_description(folder: Path) -> None:
    """The ``model.toml`` says everything that can be said, and is not itself stored."""
    (folder / "model.toml").write_text(WHOLE)

    source = directory.read(folder)

    assert [f.path for f in source.files] == ["weights/model.safetensors"]
    assert source.description == Description(
        runtime=Runtime(
            kind="torch",
            entrypoint="churn_model:build",
            arguments={"hidden": 16, "layers": [1, 2], "name": "a"},
            weights="weights/model.safetensors",
        ),
        signature=Signature(
            inputs=(TensorSpec(name="x", dtype="float32", shape=(-1, 30)),),
            outputs=(TensorSpec(name="probability", dtype="float32", shape=(-1,)),),
        ),
        metrics={"val_auc": 0.91, "epochs": 3.0},
        card=ModelCard(
            intended_use="Calls before the contract ends.\n\n- not for prices\n",
            limits="Only Europe.",
        ),
        labels={"team": "growth"},
        lineage=Lineage(
            git_commit="0123456789" * 4, git_dirty=False, seed=7, parameters={"lr": 0.1}
        ),
    )


def test_description_below_the_root_is_a_file(folder: Path) -> None:
    """Only the ``model.toml`` of the root describes the version."""
    (folder / "weights" / "model.toml").write_text("x = [")

    assert "weights/model.toml" in [f.path for f in directory.read(folder).files]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[metrics]\nauc = \n", "model.toml, line 2, column 7"),
        ("[metrics\n", "model.toml, line 1, column 9"),
        ("a = 1\na = 2\n", "model.toml, line 2"),
        ('a = """x', "model.toml, line 1, column 9"),
    ],
)
def test_syntax(refused: Callable[[str], InvalidRequest], text: str, place: str) -> None:
    """Broken TOML is refused with its line and column."""
    assert place in refused(text).message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("metric = 1", "model.toml, metric: unknown key"),
        ('[runtime]\nkind = "onnx"\nweight = "x"', "model.toml, runtime.weight: unknown key"),
        ("[card]\nuse = 'x'", "model.toml, card.use: unknown key"),
        ("[lineage]\ncommit = 'x'", "model.toml, lineage.commit: unknown key"),
        ("[signature]\ninput = []", "model.toml, signature.input: unknown key"),
        (
            "[signature]\noutputs = []\ninputs = [{name='x', dtype='int8', shape=[-1], n=1}]",
            "model.toml, signature.inputs[0].n: unknown key",
        ),
        ("[signature]\ninputs = [3]\noutputs = []", "signature.inputs[0]: a table is wanted"),
        ("[signature]\ninputs = 3\noutputs = []", "model.toml, signature.inputs: expected"),
        ("[signature]\ninputs = []", "model.toml, signature: object missing required field"),
        ("[signature]\ninputs = []\noutputs = []", "model.toml, signature: signature: inputs is"),
        (
            "[signature]\noutputs = []\ninputs = [{name='x', dtype='int8', shape='a'}]",
            "model.toml, signature.inputs[0].shape: expected `array`",
        ),
        (
            "[signature]\noutputs = []\ninputs = [{name='x', dtype='int8', shape=[3]}]",
            "model.toml, signature.inputs[0]: tensor x: shape [3] must start with -1",
        ),
        (
            "[signature]\noutputs = []\ninputs = [{name='x', dtype='complex64', shape=[-1]}]",
            "model.toml, signature.inputs[0]: tensor x: dtype 'complex64' is none of",
        ),
        ("runtime = 'torch'", "model.toml, runtime: a table is wanted"),
        ("[runtime]\nkind = 'pickle'", "model.toml, runtime: runtime 'pickle' is none of"),
        (
            "[runtime]\nkind = 'torch'\nentrypoint = 'os'\nweights = 'w.safetensors'",
            "model.toml, runtime: runtime torch: entrypoint 'os' is not module:factory",
        ),
        ("[runtime]\nkind = 'onnx'\nweights = 'model.pkl'", "model.pkl is not a .onnx file"),
        ("[runtime]\nkind = 'onnx'\nweights = '../m.onnx'", "file path '../m.onnx'"),
        ("[runtime]\nkind = 'onnx'\nweights = 'm.onnx'", "runtime.weights: 'm.onnx' is not among"),
        (
            "[runtime]\nkind = 'custom'\narguments = {day = 2026-01-01}",
            "model.toml, runtime.arguments: not plain JSON",
        ),
        ("[lineage]\nparameters = {lr = nan}", "model.toml, lineage.parameters: not plain JSON"),
        ("[lineage]\nseed = 1.5", "model.toml, lineage.seed: expected `int | null`"),
        ("[lineage]\ngit_dirty = 'no'", "model.toml, lineage.git_dirty: expected `bool | null`"),
        ("metrics = 3", "model.toml, metrics: a table is wanted"),
        ("[metrics]\nauc = nan", "model.toml, metric 'auc' is nan"),
        ("[metrics]\nauc = '0.9'", "model.toml, metric 'auc': '0.9' is not a number"),
        ("[metrics]\nauc = true", "model.toml, metric 'auc': True is not a number"),
        ("[metrics.val]\nauc = 1", "model.toml, metric 'val': {'auc': 1} is not a number"),
        ("[labels]\nn = 1", "model.toml, labels"),
        ("[card]\nlimits = 1", "model.toml, card.limits: expected `str`"),
    ],
)
def test_wrong_description(
    refused: Callable[[str], InvalidRequest], text: str, reason: str
) -> None:
    """An unknown key or a wrong value is refused with the file and the key."""
    assert reason in refused(text).message


def test_unknown_key_names_the_known_ones(refused: Callable[[str], InvalidRequest]) -> None:
    """Who mistypes a key is told the right ones."""
    hint = refused("[card]\nlimit = 'x'").hint

    assert hint is not None
    assert "intended_use, data, performance, limits, bias, owners" in hint


def test_description_that_is_no_text(folder: Path) -> None:
    """A ``model.toml`` that is no UTF-8 is refused with its name."""
    (folder / "model.toml").write_bytes(b"a = '\xff'")

    with pytest.raises(InvalidRequest, match=r"model\.toml cannot be read"):
        directory.read(folder)


def test_deeply_nested_description(refused: Callable[[str], InvalidRequest]) -> None:
    """Nesting without end is refused, not crashed on."""
    assert "model.toml" in refused(f"a = {'[' * 5000}{']' * 5000}").message


@pytest.mark.parametrize("text", ["limits = 'x'\n", "[card]\nlimits = 'x'\n"])
def test_card_file(tmp_path: Path, text: str) -> None:
    """A card is read from the top of a file, or from its ``[card]``."""
    (tmp_path / "card.toml").write_text(text)

    assert directory.read_card(tmp_path / "card.toml") == ModelCard(limits="x")


def test_card_file_with_other_keys(tmp_path: Path) -> None:
    """A key that is none of a card's is refused."""
    (tmp_path / "card.toml").write_text("limit = 'x'\n")

    with pytest.raises(InvalidRequest, match=r"card\.toml, limit: unknown key"):
        directory.read_card(tmp_path / "card.toml")
    with pytest.raises(NotFound):
        directory.read_card(tmp_path / "other.toml")
