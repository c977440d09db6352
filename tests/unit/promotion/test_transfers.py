"""What a plan says of bytes that have to move, and the limit above which a service moves them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cloudreg.carrying import hand_over
from cloudreg.errors import ConfigError, IntegrityError, InvalidRequest, Unsupported
from cloudreg.importers import Description
from cloudreg.manifest import Lineage
from cloudreg.settings import load
from cloudreg.transfer import Egress, parse_size, told
from cloudreg.types import OperationState, OperationStatus
from cloudreg_local import PLUGIN as LOCAL
from cloudreg_sagemaker import PLUGIN as SAGEMAKER
from cloudreg_vertex import PLUGIN as VERTEX

BOTH = {"prod": 'targets = ["local", "west"]\ngates = []'}


@pytest.mark.parametrize(
    ("text", "size"),
    [("50GB", 50 * 10**9), ("1.5 GiB", 3 * 2**29), ("10 kB", 10_000), ("7B", 7), (9, 9)],
)
def test_sizes(text: str | int, size: int) -> None:
    """Sizes are read in the units of prices and in those of memory."""
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "GB", "5", "5 bananas", "-1GB", "0GB", 0, True, "1e9B", "5gb"]
)
def test_no_sizes(text: Any) -> None:
    """What is no size, or excludes everything, is refused."""
    with pytest.raises(InvalidRequest):
        parse_size(text)


def test_told_sizes_can_be_typed() -> None:
    """A size that is shown can be written into the configuration."""
    assert [parse_size(told(n)) for n in (1, 1000, 50 * 10**9, 2 * 10**12)] == [
        1,
        1000,
        50 * 10**9,
        2 * 10**12,
    ]


def test_wrong_limit_is_refused_with_its_place(tmp_path: Path) -> None:
    """A limit that is no size is refused with line and column."""
    path = tmp_path / "cloudreg.toml"
    path.write_text('[targets.local]\nprovider = "local"\ntransfer_above = "much"\n')
    with pytest.raises(ConfigError, match=r"line 3, column .*'much' is no size"):
        load(path)


def test_plan_shows_only_what_is_missing(house: Any, tmp_path: Path) -> None:
    """A plan shows the bytes that the target lacks, not those that other versions brought."""
    house.configure(stages=BOTH, targets={"local": "", "west": ""})
    ws = house.open()
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "shared.bin").write_bytes(b"s" * 1000)
        (folder / "same.bin").write_bytes(b"s" * 1000)
        (folder / "own.bin").write_bytes(str(number).encode() * 10)
        ws.registration("churn", folder, Description(lineage=Lineage()))
        ws.promote(f"churn:{number}", to="staging")
        preview = ws.promote(f"churn:{number}", to="prod", dry_run=True)
        (copy,) = [change for change in preview.plan.changes if change.kind == "copy"]
        assert (
            copy.after
            == {
                1: {"bytes": 1010, "files": 2},
                2: {"bytes": 10, "files": 1},
            }[number]
        )
        assert copy.note == "no egress is charged"
        preview.apply()


def test_price_of_a_plan() -> None:
    """A price is told with its date and its source, and never invented."""
    price = Egress(usd_per_gb=0.09, as_of="2026-03-15", source="https://example.com", note="here")
    assert price.of(2 * 10**9) == (
        "egress about $0.18 at $0.09/GB, here (list price as of 2026-03-15, https://example.com)"
    )
    assert price.of(10).startswith("egress under $0.01")
    with pytest.raises(AssertionError):
        Egress(usd_per_gb=0.09)


def test_prices_and_reasons_of_providers() -> None:
    """Each provider has a reason for what it cannot, and each price a day and a source."""
    section = {
        "bucket": "our-models",
        "role": "arn:aws:iam::123456789012:role/r",
        "image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/i:1",
    }
    from cloudreg_sagemaker.abilities import capabilities

    known = capabilities(SAGEMAKER.settings()(**section, region="us-east-1"))
    unknown = capabilities(SAGEMAKER.settings()(**section, region="ap-south-1"))
    assert known.egress is not None
    assert known.egress.usd_per_gb == 0.09
    assert unknown.egress is None
    for plugin in (LOCAL, SAGEMAKER, VERTEX):
        able = plugin.capabilities()
        # None reads S3 as it comes: Vertex AI's needs a role of AWS's.
        assert "s3" not in able.managed_transfer
        assert able.reasons["managed_transfer"]
    vertex = VERTEX.capabilities().egress
    assert vertex is not None
    assert vertex.source.startswith("https://cloud.google.com/")


def test_too_large_for_this_machine(house: Any) -> None:
    """Above the user's limit nothing is copied through this machine, and the reason is told."""
    house.configure(stages=BOTH, targets={"local": "", "west": 'transfer_above = "10B"'})
    ws = house.open()
    house.register(ws, "eleven bytes")
    ws.promote("churn:1", to="staging")

    with pytest.raises(Unsupported) as refused:
        ws.promote("churn:1", to="prod")

    assert "12 B are more than transfer_above = 10 B" in str(refused.value)
    assert "no service copies them there from this machine" in str(refused.value)
    assert refused.value.hint is not None
    assert '[targets.west] transfer_above = "24B"' in refused.value.hint
    assert list(ws.targets["west"].store.list("blobs/")) == []
    house.register(ws, "ten bytes.")
    ws.promote("churn:2", to="staging")
    ws.promote("churn:2", to="prod")
    house.check_truth(ws)


class Carrier:
    """A service that copies from one store to another, at once; it notes what it is asked for."""

    service = "the carrier"

    def __init__(self, source: Any, dest: Any) -> None:
        self.source, self.dest = source, dest
        self.asked: list[tuple[str, str, tuple[str, ...]]] = []

    def start(self, name: str, source: str, keys: Any) -> Any:
        self.asked.append((name, source, tuple(keys)))
        there = {one.key for one in self.dest.list("blobs/")}
        for key in set(keys) - there:
            with self.source.open(key) as reader:
                self.dest.put(reader.read(), key)
        return self

    name = "carried"

    def poll(self) -> OperationStatus:
        return OperationStatus(state=OperationState.SUCCEEDED)


def test_copy_that_is_handed_over(house: Any, tmp_path: Path) -> None:
    """Above the limit a service copies, asked for the same by whoever repeats it; not below."""
    house.configure(targets={"local": "", "west": ""})
    ws = house.open()
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("one", "two"):
        (folder / name).write_text(name * 4)
    version = ws.register("churn", folder, lineage=Lineage())
    home = SimpleNamespace(store=ws.targets["local"].store, location="disk://home/")
    carrier = Carrier(home.store, ws.targets["west"].store)
    able = replace(ws.targets["west"].capabilities, managed_transfer=frozenset({"disk"}))
    west: Any = SimpleNamespace(
        store=carrier.dest, location="disk://west/", transfers=carrier, capabilities=able
    )

    def handed(limit: int | None, source: Any = home) -> bool:
        return hand_over(version, source, west, limit=limit, target="west")

    assert not handed(None)
    assert not handed(version.manifest.size)
    assert carrier.asked == []
    assert handed(version.manifest.size - 1)
    blobs = [one.key for one in carrier.dest.list("blobs/")]
    assert not handed(1)
    carrier.dest.delete(blobs[0])
    assert handed(1)
    first, again = carrier.asked
    assert first == again
    assert first[1:] == ("disk://home/", tuple(sorted(blobs)))
    # Other bytes do not stay, and another source is another copy.
    carrier.dest.delete(blobs[0])
    carrier.dest.put(b"12 bytes, no", blobs[0])
    carrier.dest.delete(blobs[1])
    with pytest.raises(IntegrityError):
        handed(1, SimpleNamespace(store=home.store, location="disk://other/"))
    assert [one.key for one in carrier.dest.list("blobs/")] == blobs[1:]
    assert carrier.asked[-1][0] != first[0]


def test_limit_holds_for_registrations(house: Any) -> None:
    """A registration that would copy to a second target of the first stage is refused as well."""
    house.configure(
        stages={"dev": 'targets = ["local", "west"]'},
        targets={"local": "", "west": 'transfer_above = "10B"'},
    )
    ws = house.open()
    with pytest.raises(Unsupported):
        house.register(ws, "eleven bytes")
    assert list(ws.targets["west"].store.list("blobs/")) == []


def test_limit_holds_for_batches(house: Any, tmp_path: Path) -> None:
    """A version that is too large for this machine is not copied to be scored elsewhere."""
    house.configure(targets={"local": "", "west": 'transfer_above = "10B"'})
    ws = house.open()
    house.register(ws, "eleven bytes")
    data = tmp_path / "data.jsonl"
    data.write_text("[1]\n")

    with pytest.raises(Unsupported, match="more than transfer_above = 10 B"):
        ws.batch("churn:1", data, target="west")

    assert list(ws.targets["west"].store.list("")) == []
