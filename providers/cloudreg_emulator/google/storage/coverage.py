"""Which operations are answered: read from the code, for the README.

``python -m cloudreg_emulator.google.storage.coverage`` prints the table.
"""

from __future__ import annotations

from cloudreg_emulator.google.storage import jsonapi, xmlapi


def markdown() -> str:
    """Return the table of the README."""
    rows = ["| API | operations |", "|---|---|"]
    for api, methods in (("JSON", jsonapi.METHODS), ("XML", xmlapi.METHODS)):
        rows.append(f"| {api} | {', '.join(f'`{name}`' for name in sorted(methods))} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(markdown())
