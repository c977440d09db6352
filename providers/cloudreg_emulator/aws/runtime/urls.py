"""Where requests to the runtime go."""

from __future__ import annotations

from cloudreg_emulator.aws.runtime.answering import OPERATIONS
from cloudreg_emulator.aws.runtime.responses import RuntimeResponse

url_bases = [r"https?://runtime\.sagemaker\.(.+)\.amazonaws\.com"]

url_paths = {
    f"{{0}}/endpoints/(?P<name>[^/]+)/{kind}$": RuntimeResponse.dispatch for kind in OPERATIONS
}
