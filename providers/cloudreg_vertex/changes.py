"""Operations on endpoints: each poll looks once, and begins the next thing that is missing.

Vertex AI has no update of an endpoint as a whole. A change deploys what is missing, with no
traffic; sets the whole split and the labels at once, if nobody changed the endpoint since; and
undeploys what carries none any more. Nothing of that is remembered here: a process that takes over
looks, and goes on with what is missing then.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cloudreg.errors import AlreadyExists, CloudregError, Conflict, NotFound
from cloudreg.types import EndpointSpec, OperationState, OperationStatus
from cloudreg_vertex import requests as outgoing

if TYPE_CHECKING:
    from cloudreg.objects.records import Records
    from cloudreg_vertex.hosting import Hosting
    from cloudreg_vertex.logs import EndpointLogs
    from cloudreg_vertex.requests import Placement
    from cloudreg_vertex.settings import VertexSettings

LAST_LINES = 20
FASTER = frozenset({5, 6, 10})
"""NOT_FOUND, ALREADY_EXISTS and ABORTED: somebody else did it, or undid it, meanwhile."""

STALE_LOOKS = 10
"""Looks after a creation or a deletion that may still show what was before it."""

DISCARDS = 5
"""How often the models of an endpoint that is gone are removed: such an operation can fail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What operations work with."""

    hosting: Hosting
    records: Records
    logs: EndpointLogs
    settings: VertexSettings


class Change:
    """A create or an update."""

    def __init__(self, bench: Bench, spec: EndpointSpec, placements: tuple[Placement, ...]) -> None:
        """Prepare; nothing is sent.

        Args:
            bench: What it works with.
            spec: What is asked for.
            placements: What each of its variants needs.
        """
        self._bench = bench
        self._spec = spec
        self._placements = placements
        self._frames = {one.variant.name: one.frame for one in placements}
        self._under_way: str | None = None
        self._doing = ""
        self._made_it = False
        self._verdict: tuple[str, tuple[str, ...]] | None = None
        self._done: OperationStatus | None = None
        self._looks = 0

    @property
    def name(self) -> str:
        return f"endpoint {self._spec.name}"

    def begin(self, seen: Any | None) -> Change:
        """Begin what can be begun now."""
        # An endpoint without models is what a creation begins with, whoever began it.
        self._made_it = seen is None or not seen.deployed_models
        self._step(seen)
        return self

    def poll(self) -> OperationStatus:
        if self._done is not None:
            return self._done
        hosting = self._bench.hosting
        if self._under_way is not None:
            operation = hosting.operation(self._under_way, what=self.name)
            if not operation.done:
                return _running(self._doing)
            self._under_way = None
            if self._verdict is not None:
                return self._end(OperationState.FAILED, *self._verdict)
            if operation.error.code and operation.error.code not in FASTER:
                return self._fail(operation.error.message)
        return self._step(hosting.look(self._spec.name))

    def _step(self, seen: Any | None) -> OperationStatus:
        """Begin the next thing that is missing, or end."""
        hosting, name = self._bench.hosting, self._spec.name
        try:
            if seen is None:
                self._looks += 1
                if not self._made_it:
                    return self._end(OperationState.FAILED, "the endpoint was deleted")
                if self._looks > 1 and self._looks <= STALE_LOOKS:
                    return _running("not shown yet")
                self._write_down()
                endpoint = outgoing.endpoint_from(self._spec, self._frames, self._bench.settings)
                return self._watch(hosting.create(name, endpoint), "making the endpoint")
            if hosting.pending(name):
                return _running("waiting: another change is under way")
            return self._deploy(seen) or self._scale(seen) or self._route(seen) or self._clear(seen)
        except (AlreadyExists, Conflict, NotFound):
            # Somebody else was faster: the next look shows what they did.
            return _running("waiting: another change was first")

    def _deploy(self, seen: Any) -> OperationStatus | None:
        """Deploy the first variant that is not there, without traffic unless nothing has any."""
        there = outgoing.assigned(self._frames, seen.deployed_models)
        missing = next((p for p in self._placements if p.variant.name not in there), None)
        if missing is None:
            return None
        model = self._model(missing)
        if model is None:
            model_id, request = outgoing.own_model(self._spec, missing)
            upload = self._bench.hosting.upload(model_id, request, what=self.name)
            return self._watch(upload, "making a model for it")
        split = {i: percent for i, percent in dict(seen.traffic_split).items() if percent}
        operation = self._bench.hosting.deploy(
            self._spec.name, missing.deployed(model), {**split, "0": 0} if split else {"0": 100}
        )
        return self._watch(operation, f"deploying {missing.title} on {missing.machine.name}")

    def _model(self, placement: Placement) -> str | None:
        """Return the resource name of the model to deploy; None where it is to be made first."""
        hosting, variant = self._bench.hosting, placement.variant
        for published in hosting.published(variant.model):
            if outgoing.fits(placement, published):
                return f"{published.name.partition('@')[0]}@{published.version_id}"
        model_id, _ = outgoing.own_model(self._spec, placement)
        for own in hosting.own_models(self._spec.name):
            if own.name.rpartition("/")[2] == model_id:
                return str(own.name)
        return None

    def _scale(self, seen: Any) -> OperationStatus | None:
        """Change the bounds of the first variant that has others."""
        there = outgoing.assigned(self._frames, seen.deployed_models)
        for placement in self._placements:
            deployed = there[placement.variant.name]
            wanted = outgoing.scaling_of(placement.variant)
            if not outgoing.is_scaled(deployed.dedicated_resources, wanted):
                operation = self._bench.hosting.mutate(self._spec.name, deployed.id, wanted)
                return self._watch(operation, f"scaling {placement.title}")
        return None

    def _route(self, seen: Any) -> OperationStatus | None:
        """Set the whole split and the labels, where they are others."""
        there = outgoing.assigned(self._frames, seen.deployed_models)
        split = {there[v.name].id: v.weight for v in self._spec.variants}
        marks = outgoing.endpoint_labels(self._spec, self._frames)
        now = {i: percent for i, percent in dict(seen.traffic_split).items() if percent}
        ours = {k: v for k, v in dict(seen.labels).items() if outgoing.is_mark(k)}
        if now == {i: percent for i, percent in split.items() if percent} and ours == marks:
            return None
        self._write_down()
        others = {k: v for k, v in dict(seen.labels).items() if not outgoing.is_mark(k)}
        self._bench.hosting.route(self._spec.name, split, {**others, **marks}, etag=seen.etag)
        return _running("moving the traffic")

    def _clear(self, seen: Any) -> OperationStatus:
        """Undeploy the first model that no variant needs, or end."""
        wanted = {one.id for one in outgoing.assigned(self._frames, seen.deployed_models).values()}
        for deployed in seen.deployed_models:
            if deployed.id not in wanted:
                operation = self._bench.hosting.undeploy(self._spec.name, deployed.id)
                return self._watch(operation, f"removing {deployed.display_name}")
        self._write_down()
        # What is left behind costs nothing and is found again by the next change.
        with suppress(CloudregError):
            self._tidy(seen)
        return self._end(OperationState.SUCCEEDED, "in service")

    def _tidy(self, seen: Any) -> None:
        """Remove the models and the specs that nothing needs any more."""
        hosting, records, name = self._bench.hosting, self._bench.records, self._spec.name
        used = {one.model.partition("@")[0] for one in seen.deployed_models}
        for own in hosting.own_models(name):
            if own.name.partition("@")[0] not in used:
                with suppress(NotFound, Conflict):
                    hosting.discard(own.name)
        keep = outgoing.config_of(self._spec)
        others = [asked for asked in records.of(name) if asked.config != keep]
        now = hosting.look(name) if others else None
        if now is None or dict(now.labels).get(outgoing.SPEC) != keep:
            return  # somebody made another change meanwhile, and what they wrote down is theirs
        for asked in others:
            records.forget(asked)

    def _fail(self, reason: str) -> OperationStatus:
        lines: list[str] = []
        with suppress(CloudregError):  # the reason matters more than the last words
            lines = self._bench.logs.tail(self._spec.name, lines=LAST_LINES)
        verdict = (reason or "no reason given", tuple(lines))
        if self._made_it:
            # An endpoint to which nothing could be deployed is of use to nobody.
            with suppress(CloudregError):
                seen = self._bench.hosting.look(self._spec.name)
                if seen is not None and not seen.deployed_models:
                    self._verdict = verdict
                    removal = self._bench.hosting.remove(self._spec.name)
                    for asked in self._bench.records.of(self._spec.name):
                        self._bench.records.forget(asked)
                    return self._watch(removal, "removing what came to nothing")
        return self._end(OperationState.FAILED, *verdict)

    def _watch(self, operation: str, doing: str) -> OperationStatus:
        self._under_way, self._doing, self._looks = operation, doing, 1
        return _running(doing)

    def _write_down(self) -> None:
        records = self._bench.records
        records.write(self._spec, outgoing.config_of(self._spec), records.of(self._spec.name))

    def _end(
        self, state: OperationState, message: str, logs: tuple[str, ...] = ()
    ) -> OperationStatus:
        self._done = OperationStatus(
            state=state,
            message=message,
            logs=logs,
            progress=1.0 if state is OperationState.SUCCEEDED else None,
        )
        return self._done


class Removal:
    """A delete."""

    def __init__(self, bench: Bench, name: str, seen: Any | None) -> None:
        """Remember which endpoint it is about: one that is made anew is another."""
        self._bench = bench
        self._endpoint = name
        self._made = seen.create_time if seen is not None else None
        self._under_way: str | None = None
        self._discarding: list[str] = []
        self._rounds = 0
        self._done: OperationStatus | None = None

    @property
    def name(self) -> str:
        return f"removal of endpoint {self._endpoint}"

    def begin(self, seen: Any | None) -> Removal:
        """Begin what can be begun now."""
        self._step(seen)
        return self

    def poll(self) -> OperationStatus:
        if self._done is not None:
            return self._done
        if self._under_way is not None:
            operation = self._bench.hosting.operation(self._under_way, what=self.name)
            if not operation.done:
                return _running("deleting")
            self._under_way = None
        return self._step(self._bench.hosting.look(self._endpoint))

    def _step(self, seen: Any | None) -> OperationStatus:
        hosting, name = self._bench.hosting, self._endpoint
        if seen is None or (self._made is not None and seen.create_time != self._made):
            return self._tidy(gone=seen is None)
        self._made = seen.create_time
        try:
            if hosting.pending(name):
                return _running("waiting: another change is under way")
            if seen.traffic_split:
                hosting.route(name, {}, None, etag=seen.etag)
            if seen.deployed_models:
                self._under_way = hosting.undeploy(name, seen.deployed_models[0].id)
                return _running("removing replicas")
            self._under_way = hosting.remove(name)
        except NotFound:
            return _running("deleting")
        except Conflict:
            return _running("waiting: another change was first")
        return _running("deleting")

    def _tidy(self, *, gone: bool) -> OperationStatus:
        """Remove what was made for the endpoint; the specs last, which tell that it was there."""
        if gone:
            if self._is_discarding():
                return _running("removing its models")
            for asked in self._bench.records.of(self._endpoint):
                self._bench.records.forget(asked)
        self._done = OperationStatus(state=OperationState.SUCCEEDED, progress=1.0)
        return self._done

    def _is_discarding(self) -> bool:
        """Whether models of the endpoint are on their way out; later nobody would look for them."""
        hosting = self._bench.hosting
        if any(not hosting.operation(one, what=self.name).done for one in self._discarding):
            return True
        self._discarding, self._rounds = [], self._rounds + 1
        if self._rounds <= DISCARDS:
            for own in hosting.own_models(self._endpoint):
                with suppress(NotFound, Conflict):
                    self._discarding.append(hosting.discard(own.name))
        return bool(self._discarding)


def _running(message: str) -> OperationStatus:
    return OperationStatus(state=OperationState.RUNNING, message=message)
