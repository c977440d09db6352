"""No file runs anything when it is read, unless somebody answers for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath
from typing import Any, ClassVar

from cloudreg.formats import REFUSED, Finding
from cloudreg.gates import GateContext
from cloudreg.ledger import Waiver
from cloudreg.manifest import FileEntry
from cloudreg.types import GateResult

PARALLEL = 16

SHOWN = 3
"""Files that the reason names, and things found in each."""

KEPT = 20
"""Files that the ledger keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatGate:
    """Every file is data for whoever reads it, or a waiver that still counts covers it."""

    kind: ClassVar[str] = "format"

    def check(self, context: GateContext) -> GateResult:
        """Look into every file, as it lies in the home's store.

        Raises:
            IntegrityError: A file is missing there, or shorter than what was registered.
        """
        findings = _findings(context)
        refused = [finding for finding in findings if finding.format in REFUSED]
        # Whoever made the version cannot answer for it alone, whatever the ledger holds.
        waivers = [
            w
            for w in context.waivers
            if w.stage == context.stage and w.by != context.version.author
        ]
        used = _used(waivers, refused, context.today)
        blocked = [finding for finding in refused if finding.format not in used]
        counts = Counter(finding.format for finding in findings)
        return GateResult(
            gate=self.kind,
            passed=not blocked,
            reason=(
                _refusal(blocked, waivers, context) if blocked else _consent(used, refused, counts)
            ),
            measured=", ".join(f"{n} {name}" for name, n in sorted(counts.items())),
            wanted=f"none of {', '.join(REFUSED)} without a waiver",
            evidence={
                "formats": dict(sorted(counts.items())),
                "refused": [_facts(finding) for finding in refused[:KEPT]],
                "waivers": [_waived(w) for w in {id(w): w for w in used.values()}.values()],
            },
        )


def _findings(context: GateContext) -> list[Finding]:
    """Return what each file is, in the order of the manifest."""
    # Archives and compressed files need modules that no other gate does.
    from cloudreg.formats.classify import classify

    files = context.version.manifest.files
    # Equal bytes under equal names are the same thing.
    different = {_key(file): file for file in reversed(files)}
    with context.progress.task(f"formats of {context.version.ref}", total=len(different)) as task:

        def look(file: FileEntry) -> Finding:
            found = classify(file.path, file.size, partial(context.read, file))
            task.advance(1)
            return found

        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="format") as pool:
            known = dict(zip(different, pool.map(look, different.values()), strict=True))
    return [replace(known[_key(file)], path=file.path) for file in files]


def _key(file: FileEntry) -> tuple[str, str]:
    return file.sha256, PurePosixPath(file.path).name


def _used(waivers: Sequence[Waiver], refused: Sequence[Finding], today: str) -> dict[str, Waiver]:
    """Return the waiver of each refused format that has one."""
    found = {finding.format for finding in refused}
    return {
        name: waiver
        for waiver in waivers
        if waiver.counts(today)
        for name in waiver.formats
        if name in found
    }


def _refusal(blocked: Sequence[Finding], waivers: Sequence[Waiver], context: GateContext) -> str:
    ref, stage = context.version.ref, context.stage
    formats = list(dict.fromkeys(finding.format for finding in blocked))
    named = "; ".join(_told(finding) for finding in blocked[:SHOWN])
    more = f"; and {len(blocked) - SHOWN} more" if len(blocked) > SHOWN else ""
    ended = "".join(
        f"; a waiver of {', '.join(w.formats)} ended on {w.until}"
        for w in waivers
        if not w.counts(context.today) and set(w.formats) & set(formats)
    )
    ways = dict.fromkeys(REFUSED[name] for name in formats)
    options = " ".join(f"--format {name}" for name in formats)
    return (
        f"{named}{more}{ended}. {_capital('; '.join(ways))}; or, by somebody other than "
        f"{context.version.author}: cloudreg waive {ref} {options} --stage {stage} --days 30 "
        "--reason …"
    )


def _consent(used: Mapping[str, Waiver], refused: Sequence[Finding], counts: Counter[str]) -> str:
    files = sum(counts.values())
    code = f", {counts['code']} of Python source" if counts["code"] else ""
    if not refused:
        return f"no file runs anything when it is read ({files} in all{code})"
    told = "; ".join(
        f"{name} until {waiver.until} by {waiver.by}: {waiver.reason}"
        for name, waiver in sorted(used.items())
    )
    return f"{len(refused)} of {files} files are waived ({told}){code}"


def _told(finding: Finding) -> str:
    kind = "of an unknown format" if finding.format == "unknown" else finding.format
    found = ", ".join(finding.found[:SHOWN])
    more = f" and {len(finding.found) - SHOWN} more" if len(finding.found) > SHOWN else ""
    return f"{finding.path} is {kind}{f' ({found}{more})' if found else ''}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _facts(finding: Finding) -> dict[str, Any]:
    return {
        "path": finding.path,
        "format": finding.format,
        "found": [text[:200] for text in finding.found[:KEPT]],
    }


def _waived(waiver: Waiver) -> dict[str, Any]:
    return {
        "formats": list(waiver.formats),
        "until": waiver.until,
        "by": waiver.by,
        "reason": waiver.reason,
    }
