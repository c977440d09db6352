"""One emulated AWS: its faults, its model servers, and our backends in the place of moto's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from cloudreg_emulator.aws.environment import REGION, environment
from cloudreg_emulator.aws.install import installed
from cloudreg_emulator.aws.runtime.logs import write
from cloudreg_emulator.aws.s3.reading import read
from cloudreg_emulator.aws.world import World, entered
from cloudreg_emulator.faults import Faults
from cloudreg_emulator.fleet import Fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class Emulator:
    """What a test or a server holds.

    Attributes:
        faults: Arm one to make something go wrong.
        fleet: The model servers that run.
        prepare: Called with moto's name of a service before its first request, where `opened`
            was told that somebody would.
        region: What clients ask.
    """

    faults: Faults
    fleet: Fleet
    prepare: Callable[[str], None]
    region: str = REGION

    def environment(self) -> dict[str, str]:
        """Return the variables of clients in this process."""
        return environment(None, region=self.region)

    @classmethod
    @contextmanager
    def opened(
        cls,
        *,
        images: Mapping[str, Sequence[str]] | None = None,
        scale: float = 1.0,
        describes: int = 1,
        region: str = REGION,
        late: bool = False,
    ) -> Iterator[Emulator]:
        """Answer moto's requests for as long as the block lasts, and leave no process behind.

        Args:
            images: Patterns of image URIs, and the command that each stands for.
            scale: Real seconds of an emulated second.
            describes: How many describes something that takes time takes at least.
            region: What clients ask.
            late: Whether `prepare` will be called, so that what is slow to import can wait.

        Raises:
            NoWorld: An emulator is open in this process already.
        """
        faults = Faults()
        fleet = Fleet(read, images, scale=scale, faults=faults, log=write)
        world = World(faults=faults, fleet=fleet, describes=describes, scale=scale)
        try:
            with entered(world), installed(late=late) as prepare:
                yield cls(faults=faults, fleet=fleet, prepare=prepare, region=region)
        finally:
            fleet.close()
