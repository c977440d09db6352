"""Where requests to CloudWatch go."""

from __future__ import annotations

from cloudreg_emulator.aws.cloudwatch.responses import MeteredCloudWatchResponse

url_bases = [r"https?://monitoring\.(.+)\.amazonaws.com"]

url_paths = {"{0}/$": MeteredCloudWatchResponse.dispatch}
