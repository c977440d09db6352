"""The tables of ``cloudreg.toml``: every key that there is, with what it means.

Unknown keys are errors everywhere. Credentials come from the vendors' own chains and never pass
through here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from cloudreg.settings.endpoints import EndpointSettings
from cloudreg.transfer import parse_size
from cloudreg.types import Commit

DEFAULT_STAGES = ("dev", "staging", "prod")

Where = tuple[str | int, ...]
"""A key of the configuration, from the top."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TargetSettings(BaseModel):
    """``[targets.NAME]``: a provider with its account, region and storage.

    Attributes:
        provider: The plug-in's name. All keys that are not named here are the plug-in's own.
        transfer_above: Size, such as ``50GB``, above which a version is not copied to the target
            through this machine, but by a service of the cloud; always through this machine
            without.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    provider: str
    transfer_above: str | int | None = None

    @property
    def transfer_above_bytes(self) -> int | None:
        """Return the limit in bytes.

        Raises:
            InvalidRequest: It is no size.
        """
        return None if self.transfer_above is None else parse_size(self.transfer_above)

    @property
    def options(self) -> dict[str, Any]:
        """Return the keys that the plug-in checks."""
        return dict(self.__pydantic_extra__ or {})


class KeySettings(_Strict):
    """``[keys.NAME]``: somebody whose signature a stage can ask for.

    Attributes:
        public: The public half, a PEM file relative to ``cloudreg.toml``. The private half never
            stands in a configuration.
    """

    public: str


class StageSettings(_Strict):
    """``[stages.NAME]``: a step on the way to production, in the order of the file.

    Attributes:
        targets: Targets whose registries must show the stage; the home by default.
        approvals: How many people other than the author must agree.
        signed_by: Names of ``[keys.*]``, each of which must have signed a version: before it
            enters, on each target that it is copied to, and before each deployment.
        commit: What counts where some of the targets fail: ``all`` of them or none; ``any``,
            and the others are behind until a repair; ``home-first``, where the home's own change
            counts alone, and the others follow.
        gates: ``[[stages.NAME.gates]]`` tables; without the key, what suits the stage's place:
            none for the first, ``signature`` for the others, and ``lineage`` and ``card`` too
            for the last. The order of the stages is always checked, and so are the formats of
            the files, but for the first stage.
    """

    targets: tuple[str, ...] = ()
    approvals: int = Field(default=0, ge=0, le=20)
    signed_by: tuple[str, ...] = ()
    commit: Commit = Commit.ALL
    gates: tuple[dict[str, Any], ...] | None = None


class ModelSettings(_Strict):
    """``[models.NAME]``: what holds for one model only.

    Attributes:
        gates: ``[[models.NAME.gates.STAGE]]`` tables, beside those of the stage.
    """

    gates: dict[str, tuple[dict[str, Any], ...]] = {}


class TerraformSettings(_Strict):
    """``[terraform]``: where what Terraform says of the targets is read; one of the three.

    Attributes:
        outputs: A file with what ``terraform output -json`` printed; ``-`` is standard input.
        chdir: The folder of a root, where terraform is asked each time.
        state: A state file, of which only the outputs are read.
        output: The output's name.
    """

    outputs: str | None = Field(default=None, min_length=1)
    chdir: str | None = Field(default=None, min_length=1)
    state: str | None = Field(default=None, min_length=1)
    output: str = Field(default="cloudreg", pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$")


class Settings(_Strict):
    """All that is configured.

    Attributes:
        home: The target that keeps the ledger.
        state: Folder for what this machine remembers, relative to ``cloudreg.toml``.
        terraform: Where more of the targets is read.
        targets: By name.
        stages: By name, in order; ``dev``, ``staging``, ``prod`` by default.
        keys: Public keys of those who sign, by name.
        models: By name; models need no section.
        endpoints: By name.
        prices: Target to machine to US dollars an hour: what somebody really pays, before the
            list prices that a provider brings.
    """

    home: str = "local"
    state: str = ".cloudreg/state"
    terraform: TerraformSettings = TerraformSettings()
    targets: dict[str, TargetSettings] = {"local": TargetSettings(provider="local")}
    stages: dict[str, StageSettings] = {name: StageSettings() for name in DEFAULT_STAGES}
    keys: dict[str, KeySettings] = {}
    models: dict[str, ModelSettings] = {}
    endpoints: dict[str, EndpointSettings] = {}
    prices: dict[str, dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]] = {}

    _origin: Callable[[Where], str] | None = PrivateAttr(default=None)
    _source: Callable[[Where], str] | None = PrivateAttr(default=None)
    _facts: Mapping[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def order(self) -> tuple[str, ...]:
        """Return the stages, first to last."""
        return tuple(self.stages)

    def stage_targets(self, stage: str) -> tuple[str, ...]:
        """Return the targets that must show *stage*, the home first."""
        listed = self.stages[stage].targets
        return listed or (self.home,)

    def may_lag(self, stage: str, target: str) -> bool:
        """Whether a change of *stage* counts although it failed on *target*."""
        commit = self.stages[stage].commit
        return commit is Commit.ANY or (commit is Commit.HOME_FIRST and target != self.home)

    def endpoint_target(self, name: str) -> str:
        """Return where an endpoint runs."""
        return self.endpoints[name].target or self.home

    def place(self, *where: str | int) -> str:
        """Return where a key was set: line and column, an argument, or a variable."""
        dotted = ".".join(str(part) for part in where)
        return self._origin(where) if self._origin is not None else dotted

    def source(self, *where: str | int) -> str:
        """Return what set a key: an argument, a variable, the file, Terraform, or nobody."""
        return self._source(where) if self._source is not None else "code"

    @property
    def facts(self) -> Mapping[str, Any]:
        """Return what Terraform says beside the targets; nothing is decided by it."""
        return self._facts

    def gate_tables(self, model: str, stage: str) -> list[tuple[Where, Mapping[str, Any]]]:
        """Return (key in the configuration, table) of the gates of a stage, for one model."""
        tables: list[tuple[Where, Mapping[str, Any]]] = [
            (("stages", stage, "gates", i), t) for i, t in enumerate(self._of_stage(stage))
        ]
        own = self.models[model].gates.get(stage, ()) if model in self.models else ()
        tables += [(("models", model, "gates", stage, i), t) for i, t in enumerate(own)]
        return [*self._always(stage), *tables]

    def _always(self, stage: str) -> list[tuple[Where, Mapping[str, Any]]]:
        """Return the gates that no configuration switches off."""
        gates: list[tuple[Where, Mapping[str, Any]]] = [
            (("the order of stages",), {"kind": "stage_order"})
        ]
        if stage != self.order[0]:
            # Only a waiver, recorded and expiring, lets a file through that can run something.
            gates.append((("the format policy",), {"kind": "format"}))
        if self.stages[stage].signed_by:
            names = list(self.stages[stage].signed_by)
            gates.append((("stages", stage, "signed_by"), {"kind": "signed", "keys": names}))
        return gates

    def _of_stage(self, stage: str) -> tuple[Mapping[str, Any], ...]:
        given = self.stages[stage].gates
        if given is not None:
            return given
        if stage == self.order[0]:
            return ()
        if stage == self.order[-1]:
            return tuple({"kind": kind} for kind in ("signature", "lineage", "card"))
        return ({"kind": "signature"},)
