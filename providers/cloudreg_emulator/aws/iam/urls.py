"""Where moto finds the IAM responses: its own patterns, with our response class."""

from __future__ import annotations

from moto.iam import urls as upstream

from cloudreg_emulator.aws.iam.responses import StrictIamResponse

url_bases = list(upstream.url_bases)

url_paths = dict.fromkeys(upstream.url_paths, StrictIamResponse.dispatch)
