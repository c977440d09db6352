"""Where moto finds the S3 responses: its own patterns, with our response class."""

from __future__ import annotations

from moto.s3 import urls as upstream

from cloudreg_emulator.aws.s3.responses import StrictS3Response

url_bases = list(upstream.url_bases)

url_paths = {
    path: getattr(StrictS3Response, handler.__name__)
    for path, handler in upstream.url_paths.items()
}
