"""Where moto finds the responses of Budgets: its own patterns, with our response class."""

from __future__ import annotations

from moto.budgets import urls as upstream

from cloudreg_emulator.aws.budgets.responses import ToldBudgetsResponse

url_bases = list(upstream.url_bases)

url_paths = dict.fromkeys(upstream.url_paths, ToldBudgetsResponse.dispatch)
