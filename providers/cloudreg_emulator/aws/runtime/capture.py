"""DataCapture: what went in and what came out, as JSON lines in the user's bucket.

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/model-monitor-data-capture-endpoint.html
"""

from __future__ import annotations

import base64
import json
import random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cloudreg_emulator.aws.runtime.objects import split, write

CSV_TYPES = ("text/csv",)
JSON_TYPES = ("application/json",)
"""Captured as they are where the configuration names no types; everything else as BASE64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One invocation with its answer.

    Attributes:
        endpoint: That was asked.
        variant: That answered.
        inference_id: The caller's, if any.
        custom_attributes: The caller's, if any.
        input: Of the request.
        input_type: Of the request.
        output: Of the answer.
        output_type: Of the answer.
    """

    endpoint: str
    variant: str
    inference_id: str | None
    custom_attributes: str | None
    input: bytes
    input_type: str
    output: bytes
    output_type: str


class Capture:
    """What endpoints of one account keep of their traffic. Thread-safe."""

    def __init__(self, account: str, partition: str, *, draw: random.Random | None = None) -> None:
        """Begin with nothing kept.

        Args:
            account: Whose bucket it goes to.
            partition: Of the account.
            draw: Decides which requests are sampled.
        """
        self._account = account
        self._partition = partition
        self._draw = draw or random.Random()  # noqa: S311 - sampling is no secret

    def keep(self, config: Mapping[str, Any], exchange: Exchange) -> str | None:
        """Write *exchange* where *config* says, if it is drawn, and return the object's URI."""
        share = config.get("InitialSamplingPercentage", config.get("CurrentSamplingPercentage", 0))
        if not config.get("EnableCapture", True) or self._draw.random() * 100 >= share:
            return None
        now = datetime.now(UTC)
        bucket, prefix = split(config["DestinationS3Uri"])
        folder = f"{exchange.endpoint}/{exchange.variant}/{now:%Y/%m/%d/%H}"
        # Real captures gather a minute in one file; here each line is there at once.
        name = f"{now:%M-%S-}{now.microsecond // 1000:03d}-{uuid.uuid4()}.jsonl"
        key = "/".join(part for part in (prefix.strip("/"), folder, name) if part)
        line = json.dumps(_line(config, exchange, now)) + "\n"
        write(self._account, self._partition, bucket, key, line.encode(), kind="application/jsonl")
        return f"s3://{bucket}/{key}"


def _line(config: Mapping[str, Any], exchange: Exchange, now: datetime) -> dict[str, Any]:
    modes = [option["CaptureMode"] for option in config.get("CaptureOptions", [])]
    types = config.get("CaptureContentTypeHeader") or {}
    data: dict[str, Any] = {}
    if not modes or any(mode in modes for mode in ("Input", "InputAndOutput")):
        data["endpointInput"] = _side("INPUT", exchange.input, exchange.input_type, types)
    if not modes or any(mode in modes for mode in ("Output", "InputAndOutput")):
        data["endpointOutput"] = _side("OUTPUT", exchange.output, exchange.output_type, types)
    event = {"eventId": str(uuid.uuid4()), "inferenceTime": f"{now:%Y-%m-%dT%H:%M:%SZ}"}
    if exchange.inference_id:
        event["inferenceId"] = exchange.inference_id
    if exchange.custom_attributes:
        event["customAttributes"] = exchange.custom_attributes
    return {"captureData": data, "eventMetadata": event, "eventVersion": "0"}


def _side(mode: str, data: bytes, kind: str, types: Mapping[str, Sequence[str]]) -> dict[str, str]:
    plain = kind.split(";", maxsplit=1)[0].strip().lower()
    for encoding, configured, usual in (
        ("CSV", types.get("CsvContentTypes"), CSV_TYPES),
        ("JSON", types.get("JsonContentTypes"), JSON_TYPES),
    ):
        if plain in ((configured or ()) if types else usual):
            try:
                text = data.decode()
            except UnicodeDecodeError:
                break
            return {"observedContentType": kind, "mode": mode, "data": text, "encoding": encoding}
    text = base64.b64encode(data).decode()
    return {"observedContentType": kind, "mode": mode, "data": text, "encoding": "BASE64"}
