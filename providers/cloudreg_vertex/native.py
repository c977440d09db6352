"""The vendor's own objects: messages of the API, or the high-level SDK's where asked for.

``google.cloud.aiplatform`` takes seconds to import, so it is imported when the first object of it
is wanted. Its objects are told project, location and credentials, and ``aiplatform.init`` need not
have been called. What they make by themselves, such as the endpoint of ``Model.deploy``, and how
they speak (gRPC unless ``init`` says otherwise) follows the configuration of the process, of which
nothing is changed here.

An emulator's address is a matter of that configuration alone. So the objects of an emulated target
are of subclasses, whose clients know the address; a dedicated endpoint's predictions go to a host
name of its own all the same, which only Google has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cloudreg_vertex.errors import translated

if TYPE_CHECKING:
    from cloudreg_vertex.services import Services
    from cloudreg_vertex.settings import VertexSettings


class SdkObjects:
    """What the high-level SDK shows of one project and location."""

    def __init__(self, services: Services, settings: VertexSettings, *, target: str) -> None:
        """Import nothing yet."""
        self._services = services
        self._settings = settings
        self._target = target

    @property
    def wanted(self) -> bool:
        """Whether the target's section asks for them."""
        return self._settings.native == "sdk"

    def model(self, name: str, version: str) -> Any:
        """Return ``aiplatform.Model`` of a version.

        Args:
            name: Of the Model, with its project and location.
            version: Vertex AI's number of it.
        """
        from google.cloud import aiplatform
        from google.cloud.aiplatform import utils

        kind = self._placed(aiplatform.Model, utils.ModelClientWithOverride)
        with translated(f"{name}@{version}", target=self._target):
            made = kind(name, version=version, **self._where())
        if self._settings.address is not None:
            made.versioning_registry.client = made.api_client
        return made

    def endpoint(self, name: str) -> Any:
        """Return ``aiplatform.Endpoint``.

        Args:
            name: Of the endpoint, with its project and location.
        """
        from google.cloud import aiplatform
        from google.cloud.aiplatform import utils

        kind = self._placed(aiplatform.Endpoint, utils.EndpointClientWithOverride)
        with translated(name, target=self._target):
            return kind(name, **self._where())

    def _where(self) -> dict[str, Any]:
        return {
            "project": self._settings.project,
            "location": self._settings.location,
            "credentials": self._services.credentials(),
        }

    def _placed(self, kind: Any, client: Any) -> Any:
        """Return a class of the SDK, or a subclass that asks an emulator."""
        if self._settings.address is None:
            return kind
        from google.cloud.aiplatform import utils

        def of_place(cls: Any, *_: Any, **__: Any) -> Any:
            return self._client(client)

        def predictions(_: Any) -> Any:
            return self._client(utils.PredictionClientWithOverride)

        members = {
            "_instantiate_client": classmethod(of_place),
            "_prediction_client": property(predictions),
            "__doc__": kind.__doc__,
            "__module__": __name__,
        }
        return type(kind)(kind.__name__, (kind,), members)

    def _client(self, kind: Any) -> Any:
        from google.api_core.client_options import ClientOptions
        from google.api_core.gapic_v1.client_info import ClientInfo

        return kind(
            client_options=ClientOptions(api_endpoint=self._settings.address),
            client_info=ClientInfo(),
            credentials=self._services.credentials(),
            # gRPC cannot be had without encryption there.
            transport="rest",
        )
