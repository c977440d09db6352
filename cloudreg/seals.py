"""Who signed a version, and who must have: recorded at the home, proved wherever it is used.

A signature holds where three things agree: the ledger, which records it; the bundle in the store
that is asked, which is the one that was recorded; and the public key of the configuration. It
covers the version's digest and the sha256 of every file, which whoever brings a version to a
target compares with the bytes there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cloudreg import signing
from cloudreg.errors import (
    CloudregError,
    ConfigError,
    IntegrityError,
    InvalidRequest,
    NotFound,
    SignatureRequired,
)
from cloudreg.ledger import Draft, Fold, Seal, VersionSummary
from cloudreg.names import sha256
from cloudreg.provider import ObjectStore
from cloudreg.registry import Registry
from cloudreg.settings import Settings
from cloudreg.signing.keys import public_pem
from cloudreg.types import ModelVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A signature that was looked at.

    Attributes:
        seal: What the ledger records.
        name: What the configuration, or the caller, calls the key; None for a stranger's.
        problem: Why it does not hold; None where it does.
    """

    seal: Seal
    name: str | None
    problem: str | None

    @property
    def holds(self) -> bool:
        """Whether a known key really signed this very version."""
        return self.problem is None


class Seals:
    """The signatures of all versions."""

    def __init__(self, settings: Settings, registry: Registry, root: Path) -> None:
        """Use what is configured; no key is read yet.

        Args:
            settings: The configuration.
            registry: The home's.
            root: The folder of ``cloudreg.toml``.
        """
        self._settings = settings
        self._registry = registry
        self._root = root
        self._keys: dict[str, signing.PublicKey] = {}

    def signers(self, model: str, stage: str) -> tuple[str, ...]:
        """Return the names of the keys that must have signed what enters a stage."""
        return signers(self._settings, model, stage)

    def key(self, name: str) -> signing.PublicKey:
        """Return a configured public key.

        Raises:
            ConfigError: It cannot be used; with the place in the configuration.
        """
        if name not in self._keys:
            try:
                path = self._root / self._settings.keys[name].public
                self._keys[name] = signing.PublicKey.read(path)
            except InvalidRequest as error:
                place = self._settings.place("keys", name, "public")
                raise ConfigError(f"{place}: {error.message}", hint=error.hint) from error
        return self._keys[name]

    def sign(self, version: ModelVersion, key: signing.SigningKey) -> tuple[Seal, bool]:
        """Sign *version*, keep the bundle beside it, and record who did.

        To sign again with the same key changes nothing, unless the bundle that was kept does not
        hold any more: then a new one takes its place.

        Returns:
            What the ledger records, and whether it is new.

        Raises:
            IntegrityError: The home's manifest is not the one that was registered.
        """
        # Whoever signs vouches for what is recorded, and not for what a caller holds.
        version = self._registry.load(version.model, self._summary(version, fresh=True))
        store, public = self._registry.store, key.public
        ledger = self._registry.ledger(version.model)
        bundle = self._kept(version, public)
        if bundle is None:
            bundle = signing.make(version, key)
            signing.put_bundle(bundle, version.digest, public.id, store)
        recorded = sha256(bundle)

        def draft(fold: Fold) -> Draft | None:
            known = fold.version(version.number)
            assert known is not None
            if any((s.key, s.bundle) == (public.id, recorded) for s in known.seals):
                return None
            return Draft(
                kind="sign",
                root=version.digest,
                data={
                    "number": version.number,
                    "digest": version.digest,
                    "key": public.id,
                    "bundle": recorded,
                },
            )

        entry = ledger.append(draft, op=version.digest)
        seal = next(s for s in self._summary(version).seals if s.key == public.id)
        return seal, entry is not None

    def check(
        self, version: ModelVersion, name: str, *, store: ObjectStore, target: str | None = None
    ) -> Seal:
        """Return the signature of *version* by a configured key, if it holds in a store.

        Args:
            version: Which one.
            name: The key's name in the configuration.
            store: Where the signature is read.
            target: The store's target, for messages.

        Raises:
            SignatureRequired: That key has not signed it.
            IntegrityError: It has, and what is there is not what was signed.
            ConfigError: The key cannot be used.
        """
        key = self.key(name)
        seal = next((s for s in self._summary(version).seals if s.key == key.id), None)
        if seal is None:
            raise SignatureRequired(
                f"{version.ref} is not signed by {name} (key {key.id[:12]})",
                target=target,
                hint=f"cloudreg sign {version.ref} --key FILE",
            )
        try:
            prove(version, seal, key, store)
        except IntegrityError as error:
            raise IntegrityError(
                f"the signature of {version.ref} by {name} does not hold: {error.message}",
                target=target,
                hint=f"find out who changed it; then cloudreg sign {version.ref} --key FILE",
            ) from error
        return seal

    def require(
        self,
        version: ModelVersion,
        stage: str,
        *,
        store: ObjectStore | None = None,
        target: str | None = None,
    ) -> tuple[Seal, ...]:
        """Return the signatures that a stage asks for, if all of them hold in a store.

        What was brought into the stage by breaking the glass stays there without: the ledger says
        who did it, and why.

        Args:
            version: What is about to be served in the stage.
            stage: Which one.
            store: Where the signatures are read; the home's without.
            target: The store's target, for messages.

        Raises:
            SignatureRequired: One is missing.
            IntegrityError: One does not hold.
        """
        names = self.signers(version.model, stage)
        if not names or self._excused(version, stage):
            return ()
        where = self._registry.store if store is None else store
        return tuple(self.check(version, name, store=where, target=target) for name in names)

    def carry(self, version: ModelVersion, store: ObjectStore) -> None:
        """Copy the signatures of *version* to another store.

        One that does not hold at the home is left out: whoever needs it will say so.
        """
        for seal in self._summary(version).seals:
            bundle = self._recorded(version, seal, self._registry.store)
            if bundle is not None:
                signing.put_bundle(bundle, version.digest, seal.key, store)

    def bundles(self, version: ModelVersion) -> dict[str, bytes]:
        """Return the signatures of *version* as the home has them: key to bundle, oldest first."""
        found = {}
        for seal in self._summary(version, fresh=True).seals:
            bundle = self._recorded(version, seal, self._registry.store)
            if bundle is not None:
                found[seal.key] = bundle
        return found

    def proofs(
        self,
        version: ModelVersion,
        *,
        store: ObjectStore | None = None,
        given: signing.PublicKey | None = None,
    ) -> list[Proof]:
        """Look at all signatures of a version.

        Args:
            version: Which one.
            store: Where they are read; the home's without.
            given: A key that the caller knows; then only its signature is looked at.
        """
        where = self._registry.store if store is None else store
        names = {} if given is not None else {self.key(n).id: n for n in self._settings.keys}
        found = []
        for seal in self._summary(version, fresh=True).seals:
            name = names.get(seal.key)
            key = given if given is not None else self._keys[name] if name is not None else None
            problem = None
            if given is not None and seal.key != given.id:
                continue
            if key is None:
                problem = "nobody here knows the key"
            else:
                try:
                    prove(version, seal, key, where)
                except IntegrityError as error:
                    problem = error.message
            found.append(Proof(seal=seal, name=name, problem=problem))
        return found

    def _summary(self, version: ModelVersion, *, fresh: bool = False) -> VersionSummary:
        ledger = self._registry.ledger(version.model)
        found = (ledger.read() if fresh else ledger.known()).version(version.number)
        if found is None or found.digest != version.digest:
            raise NotFound(f"{version.ref} ({version.digest}) is not in the ledger")
        return found

    def _excused(self, version: ModelVersion, stage: str) -> bool:
        """Whether the stage holds, or is getting, *version* because somebody broke the glass."""
        ledger = self._registry.ledger(version.model)
        now = ledger.known().open
        moving = (stage, version.digest)
        if now is not None and now.data.get("break_glass"):
            return (now.data.get("stage"), now.data.get("digest")) == moving
        holder = ledger.known().stages.get(stage)
        if holder is None or holder.digest != version.digest:
            return False
        return bool(ledger.entry(holder.seq).data.get("break_glass"))

    def _kept(self, version: ModelVersion, key: signing.PublicKey) -> bytes | None:
        """Return the bundle that the home has already, if it holds."""
        try:
            bundle = signing.get_bundle(version.digest, key.id, self._registry.store)
            check_bundle(version, bundle, key)
        except (NotFound, IntegrityError):
            return None
        return bundle

    @staticmethod
    def _recorded(version: ModelVersion, seal: Seal, store: ObjectStore) -> bytes | None:
        """Return the very bundle that a seal records, if the store has it."""
        try:
            bundle = signing.get_bundle(version.digest, seal.key, store)
        except (NotFound, IntegrityError):
            return None
        return bundle if sha256(bundle) == seal.bundle else None


def signers(settings: Settings, model: str, stage: str) -> tuple[str, ...]:
    """Return the names of the keys that must have signed what enters a stage, each once."""
    names: dict[str, None] = {}
    for _, table in settings.gate_tables(model, stage):
        if table.get("kind") == "signed":
            names |= dict.fromkeys(table.get("keys", ()))
    return tuple(names)


def prove(version: ModelVersion, seal: Seal, key: signing.PublicKey, store: ObjectStore) -> None:
    """Return if the signature that *seal* records stands in *store*, and is the key's.

    Raises:
        IntegrityError: It is missing, edited, another's or of something else.
    """
    try:
        bundle = signing.get_bundle(version.digest, seal.key, store)
    except NotFound as error:
        raise IntegrityError("it is missing in the store") from error
    if sha256(bundle) != seal.bundle:
        raise IntegrityError("it is not the one that the ledger records")
    check_bundle(version, bundle, key)


def check_bundle(version: ModelVersion, bundle: bytes, key: signing.PublicKey) -> None:
    """Return if *bundle* signs *version*, its description included.

    Raises:
        IntegrityError: It does not.
    """
    signed = signing.verify(bundle, key, files=version.manifest.files, digest=version.digest)
    if signed.version is None:
        raise IntegrityError("it covers the files alone, and not what is said about them")


def check_keys(settings: Settings, root: Path) -> None:
    """Return if the configured keys are there, and different ones.

    What costs an import is checked when a key is used.

    Raises:
        ConfigError: With the place in the configuration.
    """
    seen: dict[bytes, str] = {}
    for name, said in settings.keys.items():
        place = settings.place("keys", name, "public")
        try:
            pem = b"".join(public_pem(root / said.public).split())
        except CloudregError as error:
            raise ConfigError(f"{place}: {error.message}", hint=error.hint) from error
        if seen.setdefault(pem, name) != name:
            raise ConfigError(f"{place}: it is the key of {seen[pem]} again")
    for place, unknown in _unknown(settings):
        raise ConfigError(
            f"{place}: no key {unknown!r}",
            hint=f"there are {', '.join(settings.keys)}" if settings.keys else f"[keys.{unknown}]",
        )


def _unknown(settings: Settings) -> Iterator[tuple[str, str]]:
    for stage in settings.order:
        for model in [*settings.models, ""]:
            for where, table in settings.gate_tables(model, stage):
                if table.get("kind") == "signed":
                    for name in table.get("keys", ()):
                        if name not in settings.keys:
                            yield settings.place(*where), name
