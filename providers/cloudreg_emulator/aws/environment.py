"""The environment in which AWS's own clients reach an emulator, and nothing else.

boto3, the AWS CLI, the SageMaker SDK, the Go SDK (and with it Terraform) and obstore read these.
What would lead a client past the emulator is taken away as well: a profile of the user's, a
session token, an endpoint of one service, a proxy.

Source: https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

ACCOUNT = "123456789012"
REGION = "us-east-1"
ACCESS_KEY_ID = "emulated"
SECRET_ACCESS_KEY = "emulated"  # noqa: S105  # nobody checks signatures here

_OVER_LOOPBACK = ("S3", "SAGEMAKER_RUNTIME")
"""As boto3 spells them. A connection is needed for what a connection is about: bytes that obstore
moves, answers that take too long, come in pieces, or break off."""

_NO_PROXY = ("127.0.0.1", "localhost", "::1")

_TAKEN_AWAY = (
    "AWS_CA_BUNDLE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CREDENTIAL_FILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_ENDPOINT_URL",
    "AWS_IAM_ENDPOINT",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_S3_ENDPOINT",
    "AWS_SECURITY_TOKEN",
    "AWS_SESSION_TOKEN",
    "AWS_STS_ENDPOINT",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_USE_FIPS_ENDPOINT",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "MOTO_ACCOUNT_ID",
)


def environment(
    url: str | None, *, region: str = REGION, loopback: str | None = None
) -> dict[str, str]:
    """Return the variables to set.

    Args:
        url: Of the server; None in process, where clients are reached without one.
        region: The region that clients ask.
        loopback: Where those services are asked in process that send and receive bytes.
    """
    variables = {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        # Neither a user's own profile nor the metadata of the machine it runs on.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        # Terraform's provider asks 25 times otherwise, minutes for one request that is refused.
        "AWS_MAX_ATTEMPTS": "3",
        "AWS_PAGER": "",
    }
    if loopback is not None:
        variables |= {f"AWS_ENDPOINT_URL_{service}": loopback for service in _OVER_LOOPBACK}
    if url is not None:
        variables["AWS_ENDPOINT_URL"] = url
    if url is not None or loopback is not None:
        # obstore refuses plain HTTP unless it is told that it is meant.
        variables["AWS_ALLOW_HTTP"] = "true"
        present = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
        hosts = [host for host in present.split(",") if host.strip()]
        hosts += [host for host in _NO_PROXY if host not in hosts]
        variables["NO_PROXY"] = variables["no_proxy"] = ",".join(hosts)
    return variables


def taken_away(present: Mapping[str, str] | None = None) -> list[str]:
    """Return the variables of *present*, this process's by default, that must not stay."""
    names = os.environ if present is None else present
    return sorted(
        name for name in names if name in _TAKEN_AWAY or name.startswith("AWS_ENDPOINT_URL_")
    )


def merged(
    variables: Mapping[str, str], present: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return a whole environment for a process that is to reach the emulator."""
    base = dict(os.environ if present is None else present)
    for name in taken_away(base):
        del base[name]
    return {**base, **variables}


@contextmanager
def applied(variables: Mapping[str, str]) -> Iterator[None]:
    """Give this process the environment for as long as the block lasts."""
    names = {*taken_away(), *variables}
    before = {name: os.environ.get(name) for name in names}
    for name in names:
        os.environ.pop(name, None)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
