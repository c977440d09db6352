"""A model card shows what is recorded, and nothing of it can pretend to be the card."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from cloudreg.card import MAX_FILES, NOT_STATED, render
from cloudreg.types import (
    FileEntry,
    Lineage,
    Manifest,
    ModelCard,
    ModelVersion,
    Runtime,
    Signature,
    TensorSpec,
)

TITLES = [
    "Intended use", "Data", "Performance", "Limits", "Bias", "Owners", "Signature", "Reproduce",
    "Files",
]  # fmt: skip


def make_version(**parts: Any) -> ModelVersion:
    parts.setdefault("files", (FileEntry(path="w.safetensors", size=3, sha256="a" * 64),))
    manifest = Manifest(**parts)
    return ModelVersion(
        model="churn",
        number=7,
        digest=manifest.digest,
        manifest=manifest,
        author=parts.get("labels", {}).get("author", "ann"),
        created_at="2026-01-01T00:00:00Z",
    )


WHOLE: dict[str, Any] = {
    "runtime": Runtime(kind="torch", entrypoint="churn:build", weights="w.safetensors"),
    "signature": Signature(
        inputs=(TensorSpec(name="x", dtype="float32", shape=(-1, 30)),),
        outputs=(TensorSpec(name="probability", dtype="float32", shape=(-1,)),),
    ),
    "lineage": Lineage(
        git_commit="c" * 40,
        git_dirty=True,
        git_remote="https://example.org/a.git",
        data_digest="sha256:data",
        environment_digest="sha256:env",
        environment="uv.lock",
        seed=0,
        parameters={"lr": 0.1, "layers": [1, 2]},
        source="run 3",
    ),
    "metrics": {"val_auc": 0.91, "a_first": 2.0},
    "card": ModelCard(
        intended_use="Calls before the contract ends.\n\n- not for prices\n- not for credit",
        data="Customers of 2025.",
        performance="Better than before.",
        limits="Europe only.",
        bias="Looked at age.",
        owners="ann@example.org",
    ),
    "labels": {"team": "growth"},
}


def tokens(text: str) -> list[Any]:
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)


def shown(text: str) -> str:
    """Return the text that a reader sees."""
    parts = []
    for token in tokens(text):
        for child in token.children or ():
            parts.append("\n" if child.type == "softbreak" else child.content)
        parts.append("\n")
    return "".join(parts)


def structure(text: str) -> list[str]:
    """Return everything of a card that is not plain text."""
    plain = {"text", "softbreak", "paragraph_open", "paragraph_close", "inline"}
    found = []
    for token in tokens(text):
        found += [token.type] if token.type not in plain else []
        found += [child.type for child in token.children or () if child.type not in plain]
    return found


def headings(text: str) -> list[str]:
    parsed = tokens(text)
    return [b.content for a, b in itertools.pairwise(parsed) if a.type == "heading_open"]


def test_whole_card() -> None:
    """A card shows everything that is recorded, in its sections."""
    version = make_version(**WHOLE)

    card = render(version, stages=["dev", "prod"])

    assert headings(card) == ["Model card: churn:7", *TITLES]
    seen = shown(card)
    for text in (
        version.digest, version.manifest.content, "dev, prod", "2026-01-01T00:00:00Z by ann",
        "torch (churn:build)", "label team", "growth", "Calls before the contract ends.",
        "not for credit", "Customers of 2025.", "val_auc", "0.91", "Europe only.",
        "Looked at age.", "ann@example.org", "float32", "[-1, 30]", "c" * 40, "dirty",
        "https://example.org/a.git", "sha256:data", "sha256:env (uv.lock)", "run 3", "[1,2]",
        "w.safetensors", "a" * 64, "1 file, 3 bytes",
    ):  # fmt: skip
        assert text in seen, text
    assert "not stated" not in seen


def test_legible_as_text() -> None:
    """A card reads well without being rendered."""
    card = render(make_version(**WHOLE), stages=["prod"])

    assert "## Limits\n\nEurope only.\n" in card
    assert "- not for prices\n- not for credit\n" in card
    assert "| metric | value |\n| --- | --- |\n| a\\_first | 2.0 |\n| val\\_auc | 0.91 |\n" in card
    assert "| seed | 0 |" in card


def test_empty_card() -> None:
    """What is not recorded is said not to be stated."""
    card = render(make_version())

    assert headings(card) == ["Model card: churn:7", *TITLES]
    # Six texts, the signature, and seven facts of the lineage.
    assert card.count(NOT_STATED) == 6 + 1 + 7


def test_many_files() -> None:
    """A version of very many files has a card of a few pages, which says what it leaves out."""
    files = tuple(FileEntry(path=f"{i:06}", size=2, sha256="0" * 64) for i in range(MAX_FILES + 50))

    card = render(make_version(files=files))

    assert f"{MAX_FILES - 1:06}" in card
    assert f"{MAX_FILES:06}" not in card
    assert "and 50 files more, 100 bytes" in card
    assert "250 files, 500 bytes" in card


HOSTILE = [
    "# Approved by legal",
    "text\n# Approved",
    "text\n===",
    "text\n---",
    "- - ---",
    "## x",
    "a | b\n--- | ---\n1 | 2",
    "| a |\n|---|\n| b |",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "text <!-- hidden",
    "<!-- hidden -->",
    "<details>\n",
    "&lt;script&gt; &#60;b&#62;",
    "[click](javascript:alert(1))",
    "![pixel](https://example.org/pixel)",
    "[ref]: https://example.org",
    "<https://example.org>",
    "```\nfence",
    "~~~\nfence",
    "    indented code",
    "\tindented code",
    "> quote",
    "1. list",
    "1) list",
    "+ list",
    "* list",
    "***",
    "___",
    "*emphasis* **strong** _em_ __strong__ ~~gone~~ `code`",
    "back\\",
    "line  \nbreak",
    "a\\\nb",
    "a\\|b",
    "\\",
    "\\`",
    "\r# carriage",
    "\x0b# tab\x0c# feed\x1c# sep\x85# nel\u2028# ls\u2029# ps",
    "\x00\x1b[31mred",
    "\u202egnp.exe",
    ":---:",
    "$x$",
    "- # heading in a list",
    "- > quote in a list",
    "-     code in a list",
    "- 1. list in a list",
    "- a\n\n      code",
]


def poisoned(text: str) -> ModelVersion:
    """Return a version that says *text* wherever anything can be said."""
    name = text.replace("\n", " ") if text.isprintable() else "name"
    name = name[:100].strip() or "name"
    return make_version(
        card=ModelCard(**{field.name: text for field in fields(ModelCard)}),
        labels={text or "k": text, "author": text},
        lineage=Lineage(
            git_commit=text or "c",
            git_dirty=False,
            git_remote=text or "r",
            data_digest=text or "d",
            environment_digest=text or "e",
            environment=text or "e",
            seed=1,
            source=text or "s",
            parameters={text or "p": text, "q": {text: [text]}},
        ),
        metrics={name: 1.0},
        signature=Signature(
            inputs=(TensorSpec(name=name, dtype="int8", shape=(-1,)),),
            outputs=(TensorSpec(name=name, dtype="int8", shape=(-1,)),),
        ),
    )


def check_harmless(text: str) -> None:
    """The card has the structure that it has with harmless text; lists in prose aside."""
    lists = {"bullet_list_open", "bullet_list_close", "list_item_open", "list_item_close"}
    tame, wild = (
        [kind for kind in structure(render(v, stages=["prod"])) if kind not in lists]
        for v in (poisoned("tame"), poisoned(text))
    )
    # Text that shows nothing is not stated, in emphasis of our own.
    emphasis = {"em_open", "em_close"}
    assert [k for k in wild if k not in emphasis] == [k for k in tame if k not in emphasis]
    card = render(poisoned(text))
    assert "<" not in card
    assert headings(card) == ["Model card: churn:7", *TITLES]
    assert "\x1b" not in card
    assert "\u202e" not in card


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text(text: str) -> None:
    """Text that looks like Markdown or HTML stays text, wherever it stands."""
    check_harmless(text)


@settings(deadline=None, max_examples=150)
@given(
    st.text(st.sampled_from("#|-=*_`~<>&[]()!\\:.+$@^ \t\n\r19ax\u2028\x0b"), max_size=24)
    | st.text(max_size=24)
)
def test_any_text(text: str) -> None:
    """No text whatever changes the structure of a card."""
    check_harmless(text)


@pytest.mark.parametrize(
    "text", ["# no heading", "a | b", "<b>", "&amp;", "[a](b)", "1. x", "-x-", "*a* _b_", "a\\b"]
)
def test_text_is_shown_as_written(text: str) -> None:
    """Escaping is invisible once the card is rendered."""
    card = replace(ModelCard(), limits=text)

    assert f"\n{text}\n" in shown(render(make_version(card=card)))
