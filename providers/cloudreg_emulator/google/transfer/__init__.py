"""Storage Transfer Service: jobs that copy from S3 or Cloud Storage into Cloud Storage.

`service`   jobs and operations over REST
`listing`   lists of them: filters, and pages
`rules`     what is refused
`sources`   the bytes: an S3 at an address of its own, or the emulated Cloud Storage
"""

from __future__ import annotations

from cloudreg_emulator.google.transfer.service import Transfers

__all__ = ["Transfers"]
