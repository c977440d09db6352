"""Which of a target's GPUs an endpoint gets: the one that was asked for, or a graded other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cloudreg.capabilities import Capabilities
from cloudreg.catalog.gpus import Gpu, Grade, compared, gpus, parse_capability
from cloudreg.errors import CloudregError, InvalidRequest, Unsupported
from cloudreg.machines import Machine
from cloudreg.types import Resources

Quote = Callable[[str], Machine]
"""Returns the machine that carries a class of GPUs; raises where none does, in that number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuWish:
    """What an endpoint asks of its GPUs: a class, or what any class must have.

    Attributes:
        accelerator: The class; None where any will do that has the minima.
        count: GPUs for each replica.
        min_memory_gib: Memory of each, as its maker prints it.
        min_compute_capability: Such as ``8.0``.
        allow_downgrade: Whether a class may be taken that is worse than the one asked for.
    """

    accelerator: str | None = None
    count: int = 1
    min_memory_gib: float | None = None
    min_compute_capability: str | None = None
    allow_downgrade: bool = False

    def __post_init__(self) -> None:
        """Refuse a wish for nothing, and a class with minima: it has what it has."""
        minima = [k for k in ("min_memory_gib", "min_compute_capability") if getattr(self, k)]
        if self.accelerator is None and not minima:
            raise InvalidRequest(
                "gpu: neither a class nor what it must have",
                hint='gpu = "L4", or gpu = {min_memory_gib = 24}',
            )
        if self.accelerator is not None and minima:
            raise InvalidRequest(
                f"gpu: {self.accelerator} has what it has, and {minima[0]} asks for any class",
                hint=f"leave class or {minima[0]} out",
            )
        if self.min_memory_gib is not None and not 0 < self.min_memory_gib <= 10_000:
            raise InvalidRequest(f"gpu: min_memory_gib {self.min_memory_gib:g} is not 1 to 10000")
        if self.min_compute_capability is not None:
            try:
                parse_capability(self.min_compute_capability)
            except ValueError as error:
                raise InvalidRequest(f"gpu: min_compute_capability {error}") from error
        if self.accelerator is None and self.allow_downgrade:
            raise InvalidRequest(
                "allow_downgrade: what has the minima is no downgrade",
                hint="leave allow_downgrade out, or name a class",
            )
        Resources.parse(self.accelerator or "ANY")
        Resources.parse(f"{self.accelerator or 'ANY'}:{self.count}")

    def __str__(self) -> str:
        """Render as people say it."""
        if self.accelerator is not None:
            return f"{self.accelerator}:{self.count}"
        parts = []
        if self.min_memory_gib is not None:
            parts.append(f"at least {self.min_memory_gib:g} GB")
        if self.min_compute_capability is not None:
            parts.append(f"compute capability {self.min_compute_capability}")
        return " and ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The GPUs that an endpoint gets on a target.

    Attributes:
        accelerator: The class.
        count: GPUs for each replica.
        grade: How it compares with what was asked for.
        reason: Why it is this one, and in what it differs; empty for the very class.
    """

    accelerator: str
    count: int
    grade: Grade = Grade.EXACT
    reason: str = ""


def choose(
    wish: GpuWish, capabilities: Capabilities, quote: Quote, *, name: str, target: str
) -> Choice:
    """Return what *wish* gets on a target.

    Args:
        wish: What the endpoint asks for.
        capabilities: The target's.
        quote: The target's machines.
        name: The endpoint's, for messages.
        target: For messages.

    Raises:
        Unsupported: Nothing there has the minima, or the nearest is a downgrade that nobody
            allowed.
    """
    if wish.accelerator is None:
        return _smallest(wish, capabilities, quote, name=name, target=target)
    if wish.accelerator in capabilities.accelerators or wish.accelerator not in gpus():
        # A class that nobody offers and nobody knows is refused by the capabilities.
        return Choice(accelerator=wish.accelerator, count=wish.count)
    return _nearest(wish, wish.accelerator, capabilities, quote, name=name, target=target)


def _carried(capabilities: Capabilities, quote: Quote) -> dict[str, Machine]:
    """Return the classes that come in the wished number, with their machines."""
    found: dict[str, Machine] = {}
    for gpu in sorted(capabilities.accelerators & gpus().keys()):
        try:
            found[gpu] = quote(gpu)
        except CloudregError:
            continue
    return found


def _smallest(
    wish: GpuWish, capabilities: Capabilities, quote: Quote, *, name: str, target: str
) -> Choice:
    known, carried = gpus(), _carried(capabilities, quote)
    least = parse_capability(wish.min_compute_capability or "0.0")
    fitting = [
        gpu
        for gpu in carried
        if known[gpu].memory_gib >= (wish.min_memory_gib or 0) and known[gpu].capability >= least
    ]
    if not fitting:
        why = capabilities.reasons.get("accelerators") if not carried else None
        raise Unsupported(
            f"endpoint {name}: no GPU with {wish} on this provider" + (f" ({why})" if why else ""),
            target=target,
            hint=_most(wish, [known[gpu] for gpu in carried]),
        )

    def size(gpu: str) -> tuple[float, float, tuple[int, int], str]:
        # A machine is paid for as a whole: eight small GPUs are more than one large one.
        machine = carried[gpu]
        usd = machine.price.usd_per_hour if machine.price is not None else float("inf")
        carries = max(1, machine.accelerator_count)
        return carries * known[gpu].memory_gib, usd, known[gpu].capability, gpu

    best = min(fitting, key=size)
    return Choice(
        accelerator=best,
        count=wish.count,
        reason=f"the smallest on {target} with {wish}: {known[best]}",
    )


def _most(wish: GpuWish, there: Sequence[Gpu]) -> str | None:
    """Return the highest minimum that something has, of the one that is too high."""
    if not there:
        return None
    most = max(gpu.memory_gib for gpu in there)
    if wish.min_memory_gib is not None and wish.min_memory_gib > most:
        return f"min_memory_gib = {most:g} is the most there is with count = {wish.count}"
    major, minor = max(gpu.capability for gpu in there)
    return (
        f'min_compute_capability = "{major}.{minor}" is the highest there is with count = '
        f"{wish.count}, and no class has both"
    )


def _nearest(
    wish: GpuWish,
    wanted: str,
    capabilities: Capabilities,
    quote: Quote,
    *,
    name: str,
    target: str,
) -> Choice:
    known, carried = gpus(), _carried(capabilities, quote)
    ranked = sorted(carried, key=lambda gpu: (known[wanted].distance(known[gpu]), gpu))
    if not ranked:
        return Choice(accelerator=wanted, count=wish.count)
    best = ranked[0]
    grade, differs = compared(known[wanted], known[best])
    if grade is Grade.DOWNGRADE and not wish.allow_downgrade:
        more = [gpu for gpu in ranked if compared(known[wanted], known[gpu])[0] != grade]
        hint = f'gpu = "{_counted(best, wish.count)}", or allow_downgrade = true'
        if more:
            hint += f'; gpu = "{_counted(more[0], wish.count)}" is no downgrade'
        raise Unsupported(
            f"endpoint {name}: no {wanted} on this provider, and the nearest, {best}, is a "
            f"downgrade: {differs}",
            target=target,
            hint=hint,
        )
    return Choice(
        accelerator=best,
        count=wish.count,
        grade=grade,
        reason=f"there is no {wanted} on {target}, and {best} has {differs}",
    )


def _counted(gpu: str, count: int) -> str:
    return gpu if count == 1 else f"{gpu}:{count}"
