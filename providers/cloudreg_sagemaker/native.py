"""The vendor's own objects: boto3's answers, or the SageMaker SDK's resources where asked for.

The SDK takes seconds to import, so it is imported when the first object of it is wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cloudreg.errors import ProviderNotInstalled
from cloudreg_sagemaker.errors import translated
from cloudreg_sagemaker.images import EXTRA

if TYPE_CHECKING:
    from cloudreg_sagemaker.settings import SageMakerSettings


class Resources:
    """What the SDK's classes show of one account and region."""

    def __init__(self, settings: SageMakerSettings, *, target: str) -> None:
        """Import nothing yet."""
        self._settings = settings
        self._target = target

    @property
    def wanted(self) -> bool:
        """Whether the target's section asks for them."""
        return self._settings.native == "sdk"

    def package(self, arn: str) -> Any:
        """Return ``sagemaker.core.resources.ModelPackage``."""
        with translated(arn, target=self._target):
            return self._classes().ModelPackage.get(model_package_name=arn, **self._where())

    def endpoint(self, name: str) -> Any:
        """Return ``sagemaker.core.resources.Endpoint``."""
        with translated(f"endpoint {name}", target=self._target):
            return self._classes().Endpoint.get(endpoint_name=name, **self._where())

    def _classes(self) -> Any:
        try:
            from sagemaker.core import resources
        except ModuleNotFoundError as error:
            raise ProviderNotInstalled(
                f'native = "sdk" needs the module {error.name!r}', target=self._target, hint=EXTRA
            ) from error
        return resources

    def _where(self) -> dict[str, Any]:
        import boto3
        import botocore.session

        session = botocore.session.get_session()
        if self._settings.endpoint_url is not None:
            # The SDK makes its own clients: the session is all that it can be given.
            session.set_config_variable("endpoint_url", self._settings.endpoint_url)
        region = self._settings.region
        made = boto3.session.Session(botocore_session=session, region_name=region)
        return {"session": made, "region": region}
