"""What Vertex AI's SDK has to be told to reach an emulator: it reads no variable for that."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from cloudreg.errors import ConfigError

HOST = "VERTEX_EMULATOR_HOST"
PROJECT = "GOOGLE_CLOUD_PROJECT"
LOCATION = "GOOGLE_CLOUD_LOCATION"


def vertex_client_options() -> dict[str, Any]:
    """Return the arguments of ``aiplatform.init`` for the emulator of this environment.

    ::

        aiplatform.init(**vertex_client_options(), staging_bucket="gs://staging")

    Raises:
        ConfigError: This process does not run inside ``cloudreg emulate --``, and no fixture has
            set the variables.
    """
    missing = [name for name in (HOST, PROJECT, LOCATION) if not os.environ.get(name)]
    if missing:
        raise ConfigError(
            f"{missing[0]} is not set: there is no emulator around this process",
            hint="cloudreg emulate -- python deploy.py",
        )
    # By name, since the core imports no SDK; who calls this has it.
    credentials = import_module("google.auth.credentials").AnonymousCredentials()
    return {
        "project": os.environ[PROJECT],
        "location": os.environ[LOCATION],
        "api_endpoint": os.environ[HOST],
        # Over gRPC its high-level classes insist on TLS.
        "api_transport": "rest",
        "credentials": credentials,
    }
