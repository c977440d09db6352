"""The policy that lets somebody deploy, in the words of a cloud."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cloudreg.cli.desk import Answer
from cloudreg.errors import InvalidRequest, NotFound, Unsupported
from cloudreg.provider import Deployed

if TYPE_CHECKING:
    from cloudreg.settings import Settings
    from cloudreg.workspace import Workspace


def policy(workspace: Workspace, provider: str, *, target: str | None, stage: str | None) -> Answer:
    """Return the policy for what is configured; nothing is opened and nothing is sent.

    Args:
        workspace: Whose configuration.
        provider: Whose words.
        target: Which of its targets; the only one without.
        stage: The highest stage that it allows.

    Raises:
        NotFound: No such target or stage is configured.
        InvalidRequest: There are several targets, and none is named.
        Unsupported: The provider asks nobody for permission.
    """
    settings = workspace.settings
    name = _target(settings, provider, target)
    plugin, options = workspace.targets.options(name)
    if plugin.policy is None:
        raise Unsupported(
            f"provider {provider!r} has no policies: it asks nobody for permission", target=name
        )
    document = plugin.policy(options, deployed(settings, name, stage))
    return Answer(
        facts={"target": name, "stage": stage, "policy": document},
        text=json.dumps(document, indent=2).split("\n"),
    )


def _target(settings: Settings, provider: str, target: str | None) -> str:
    known = [name for name, section in settings.targets.items() if section.provider == provider]
    if target is not None:
        if target not in known:
            raise NotFound(
                f"no target {target!r} of provider {provider!r} is configured",
                hint=f"there are {', '.join(known) or 'none'}",
            )
        return target
    if not known:
        raise NotFound(
            f"no target of provider {provider!r} is configured",
            hint=f'provider = "{provider}" in a section [targets.NAME]',
        )
    if len(known) > 1:
        raise InvalidRequest(
            f"provider {provider!r} has {len(known)} targets: {', '.join(known)}",
            hint=f"--target {known[0]}",
        )
    return known[0]


def deployed(settings: Settings, target: str, stage: str | None) -> Deployed:
    """Return what is deployed to a target, up to a stage.

    Raises:
        NotFound: No such stage is configured.
    """
    order = list(settings.order)
    if stage is not None and stage not in order:
        raise NotFound(f"no stage {stage!r} is configured", hint=f"there are {', '.join(order)}")
    allowed = order[: order.index(stage) + 1] if stage is not None else order
    endpoints = {
        name: endpoint
        for name, endpoint in settings.endpoints.items()
        if settings.endpoint_target(name) == target and endpoint.stage in allowed
    }
    # All of them: what is served in production alone goes through the stages before it too.
    models = {*settings.models, *(endpoint.model for endpoint in settings.endpoints.values())}
    # What endpoints share is an endpoint of the cloud's, too.
    pools = {endpoint.pool for endpoint in endpoints.values() if endpoint.pool is not None}
    return Deployed(
        models=tuple(sorted(models)),
        endpoints=tuple(sorted({*endpoints, *pools})),
        stages=tuple(allowed),
        others=tuple(order[len(allowed) :]),
        by_service=settings.targets[target].transfer_above is not None,
    )
