"""Where requests to Application Auto Scaling go."""

from __future__ import annotations

from cloudreg_emulator.aws.autoscaling.responses import ScalingResponse

url_bases = [r"https?://application-autoscaling\.(.+)\.amazonaws.com"]

url_paths = {"{0}/$": ScalingResponse.dispatch}
