"""A model card: what is recorded of a version, as Markdown for people.

All text in a card is somebody's data. It is shown as it was written, and whatever could start a
heading, a table, a link or a tag of its own is escaped.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from cloudreg.manifest import Lineage, Manifest
from cloudreg.types import ModelVersion

NOT_STATED = "*not stated*"
MAX_FILES = 200
"""Rows of the table of files; a version may have a hundred thousand."""

_SPECIAL = re.compile(r"[\\`*_\[\]#|~!$@^]")
_LINE_START = re.compile(r"[-+=:]|\d{1,9}[.)]")
_ITEM = re.compile(r"[-*+] +(?=\S)")


def render(version: ModelVersion, *, stages: Sequence[str] = ()) -> str:
    """Return the model card of *version* as Markdown.

    Args:
        version: What it is about.
        stages: The stages that it holds now.
    """
    manifest = version.manifest
    card = manifest.card
    lines = [
        f"# Model card: {escape(version.ref)}",
        "",
        *_table(("", ""), _identity(version, stages)),
        *_section("Intended use", card.intended_use),
        *_section("Data", card.data),
        *_section("Performance", card.performance),
        *_table(("metric", "value"), [(n, str(v)) for n, v in sorted(manifest.metrics.items())]),
        *_section("Limits", card.limits),
        *_section("Bias", card.bias),
        *_section("Owners", card.owners),
        *_heading("Signature"),
        *(_table(("", "name", "dtype", "shape"), _tensors(manifest)) or [NOT_STATED, ""]),
        *_heading("Reproduce"),
        *_reproduce(manifest),
        *_heading("Files"),
        *_files(manifest),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def escape(text: str) -> str:
    """Return *text* so that Markdown shows it as it is, on one line.

    Control characters and those that turn the direction of writing are dropped.
    """
    text = " ".join(text.split())
    text = "".join(c for c in text if not _unseen(c))
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(lambda match: f"\\{match[0]}", text)


def _unseen(c: str) -> bool:
    # Joiners (Cf) are kept for the sake of scripts and emoji that need them.
    return unicodedata.category(c) in ("Cc", "Cs") or c in (
        "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
    )


def _paragraphs(text: str) -> list[str]:
    """Return text of several lines: paragraphs and lists of one level stay what they are."""
    lines = []
    for line in text.strip().splitlines():
        stripped = line.strip()
        item = _ITEM.match(stripped)
        body = escape(stripped[item.end() :] if item else stripped)
        # What is left may still begin like a heading's underline, a list or a table.
        if start := _LINE_START.match(body):
            at = start.end() - 1
            body = f"{body[:at]}\\{body[at:]}"
        lines.append(f"- {body}" if item and body else body)
    return lines


def _heading(title: str) -> list[str]:
    return ["", f"## {title}", ""]


def _section(title: str, text: str) -> list[str]:
    lines = _paragraphs(text)
    return [*_heading(title), *(lines if any(lines) else [NOT_STATED]), ""]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [[escape(cell) for cell in row] for row in rows]
    if not cells:
        return []
    return [
        _row(header),
        _row(["---"] * len(header)),
        *(_row([cell or " " for cell in row]) for row in cells),
        "",
    ]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _identity(version: ModelVersion, stages: Sequence[str]) -> Iterator[tuple[str, str]]:
    manifest = version.manifest
    yield "version", version.ref
    yield "digest", version.digest
    yield "content", manifest.content
    yield "stages", ", ".join(stages) or "none"
    yield "registered", f"{version.created_at} by {version.author}"
    if manifest.runtime is not None:
        entrypoint = manifest.runtime.entrypoint
        yield "runtime", manifest.runtime.kind + (f" ({entrypoint})" if entrypoint else "")
        if manifest.runtime.image is not None:
            yield "image", manifest.runtime.image
    yield from ((f"label {name}", text) for name, text in sorted(manifest.labels.items()))


def _tensors(manifest: Manifest) -> list[tuple[str, str, str, str]]:
    signature = manifest.signature
    if signature is None:
        return []
    sides = (("input", signature.inputs), ("output", signature.outputs))
    return [
        (side, tensor.name, tensor.dtype, str(list(tensor.shape)))
        for side, tensors in sides
        for tensor in tensors
    ]


def _reproduce(manifest: Manifest) -> list[str]:
    lineage: Lineage = manifest.lineage
    tree = {True: "dirty: it differed from the commit", False: "clean", None: ""}
    environment = lineage.environment_digest or ""
    if lineage.environment:
        environment = f"{environment} ({lineage.environment})".strip()
    facts = [
        ("git commit", lineage.git_commit or ""),
        ("work tree", tree[lineage.git_dirty]),
        ("repository", lineage.git_remote or ""),
        ("data", lineage.data_digest or ""),
        ("environment", environment),
        ("seed", "" if lineage.seed is None else str(lineage.seed)),
        ("source", lineage.source or ""),
    ]
    rows = [_row([name, escape(value) if value else NOT_STATED]) for name, value in facts]
    return [
        _row(["fact", "value"]),
        _row(["---", "---"]),
        *rows,
        "",
        *_table(
            ("parameter", "value"),
            [
                (name, msgspec.json.encode(value).decode())
                for name, value in sorted(lineage.parameters.items())
            ],
        ),
    ]


def _files(manifest: Manifest) -> list[str]:
    rows = [(f.path, str(f.size), f.sha256) for f in manifest.files[:MAX_FILES]]
    lines = _table(("path", "bytes", "sha256"), rows)
    more = manifest.files[MAX_FILES:]
    if more:
        size = sum(file.size for file in more)
        lines += [f"and {len(more)} files more, {size} bytes", ""]
    total = f"{len(manifest.files)} files, {manifest.size} bytes"
    return [*lines, total if len(manifest.files) != 1 else f"1 file, {manifest.size} bytes"]
