"""Which RPCs of Vertex AI are answered: read from the code, for the README.

``python -m cloudreg_emulator.google.vertex.coverage`` prints the table.
"""

from __future__ import annotations

from collections.abc import Iterator

from cloudreg_emulator.google.emulator import Google
from cloudreg_emulator.google.vertex import protos, routes

__all__ = ["markdown"]


def markdown() -> Iterator[str]:
    """Yield the README's table, line by line."""
    known: dict[str, set[str]] = {}
    for version in protos.VERSIONS:
        for rpc in routes.rpcs(version).values():
            known.setdefault(rpc.service, set()).add(rpc.name)
    with Google() as emulator:
        answered = emulator.api.answered
    yield "| service | answered | refused |"
    yield "|---|---|---|"
    services = sorted({service for service, _ in answered})
    for service in services:
        names = [name for one, name in answered if one == service]
        refused = known.get(service, set()) - set(names)
        yield f"| {service} | {', '.join(f'`{name}`' for name in names)} | {len(refused)} |"
    others = [len(names) for service, names in known.items() if service not in services]
    yield f"| {len(others)} others | | {sum(others)} |"


if __name__ == "__main__":
    print("\n".join(markdown()))
