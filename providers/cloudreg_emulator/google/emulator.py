"""One emulated Google Cloud: Cloud Storage and Vertex AI on one port for HTTP, one for gRPC."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from cloudreg_emulator.faults import CONTROL_PATH, Faults
from cloudreg_emulator.fleet.fleet import PATIENCE_S
from cloudreg_emulator.google import projects
from cloudreg_emulator.google.http import HttpServer, Request, Response
from cloudreg_emulator.google.state import State
from cloudreg_emulator.google.storage import Storage
from cloudreg_emulator.google.storage import handle as handle_storage
from cloudreg_emulator.google.storage.disk import Disk
from cloudreg_emulator.google.transfer import Transfers
from cloudreg_emulator.google.vertex import rest
from cloudreg_emulator.google.vertex.channel import GrpcServer
from cloudreg_emulator.google.vertex.deployments import Deployments
from cloudreg_emulator.google.vertex.endpoints import Endpoints
from cloudreg_emulator.google.vertex.jobs import Jobs
from cloudreg_emulator.google.vertex.locations import Locations
from cloudreg_emulator.google.vertex.models import Models
from cloudreg_emulator.google.vertex.observing import Observing
from cloudreg_emulator.google.vertex.operations import Operations
from cloudreg_emulator.google.vertex.predictions import Predictions
from cloudreg_emulator.google.vertex.records import Records
from cloudreg_emulator.google.vertex.scaling import Scaler
from cloudreg_emulator.google.vertex.services import Api, Service
from cloudreg_emulator.google.vertex.versions import Registry
from cloudreg_emulator.google.world import PROJECT, PROJECT_NUMBER, REGION, Place, World

__all__ = ["Google", "google"]


class Google:
    """An emulated Google Cloud that answers until it is closed.

    Attributes:
        world: Place, faults, storage, time.
        operations: Long-running operations.
        registry: Models and versions.
        endpoints: Endpoints, and what is deployed to them.
        deployments: The processes behind them.
        predictions: Requests to them, and those that they keep.
        jobs: Batch prediction jobs.
        transfers: Copies that Storage Transfer Service makes.
        api: All RPCs of Vertex AI.
    """

    def __init__(
        self,
        *,
        project: str = PROJECT,
        project_number: int = PROJECT_NUMBER,
        regions: tuple[str, ...] = (REGION,),
        polls: int = 1,
        scale: float = 1.0,
        state: Path | None = None,
        s3: str | None = None,
        images: Mapping[str, Sequence[str]] | None = None,
        patience_s: float = PATIENCE_S,
        host: str = "127.0.0.1",
        port: int = 0,
        grpc_port: int = 0,
    ) -> None:
        """Begin to answer.

        Args:
            project: Its id.
            project_number: Which names of resources carry.
            regions: Which ones are asked here.
            polls: How many polls an operation takes at least; 0 lets it be done at once.
            scale: Real seconds of an emulated second.
            state: A folder that keeps buckets, objects and Vertex AI's resources between runs.
            s3: Where an S3 answers that transfers read; AWS_ENDPOINT_URL_S3 and AWS_ENDPOINT_URL
                say so too.
            images: Patterns of image URIs, and the command that each stands for.
            patience_s: Real seconds that a replica's start may take at least, whatever the scale.
            host: Where to listen.
            port: For HTTP; 0 takes a free one.
            grpc_port: For gRPC; 0 takes a free one.

        Raises:
            OSError: A port cannot be had.
            ValueError: The folder holds what is no state.
        """
        faults = Faults()
        self.world = World(
            place=Place(project=project, number=project_number, regions=regions),
            faults=faults,
            storage=Storage(project=project, project_number=project_number, faults=faults),
            polls=polls,
            scale=scale,
        )
        self.operations = Operations(self.world)
        self.registry = Registry(self.world)
        self.models = Models(self.world, self.operations, self.registry)
        self.observing = Observing(self.world)
        self.deployments = self.observing.deployments = Deployments(
            self.world,
            images=images or {},
            storage_url=lambda: self.url,
            log=self.observing.log,
            patience_s=patience_s,
        )
        self.endpoints = Endpoints(self.world, self.operations, self.registry, self.deployments)
        self.predictions = Predictions(self.endpoints)
        self.jobs = Jobs(self.world, self.operations, self.registry, self.deployments)
        self.transfers = Transfers(
            self.world,
            s3=lambda: (
                s3 or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
            ),
        )
        self._state = State(state, self._records()) if state is not None else None
        self._disk = Disk(self.storage, state / "storage") if state is not None else None
        self.api = Api(
            self.world,
            self._services(),
            before=self._advance,
            after=self._save,
        )
        self._http = HttpServer(self.handle, host=host, port=port)
        try:
            self._grpc = GrpcServer(self.api, others=self._method, host=host, port=grpc_port)
        except BaseException:
            self._http.close()
            raise
        self._host = host
        # Containers fetch their files from here: only now they can.
        with self.world.lock:
            self.endpoints.restart()
            self.jobs.restart()
        self.operations.resume(self.api)
        self._scaler = Scaler(self.world, self.deployments)

    def _services(self) -> list[Service]:
        return [
            self.operations,
            Locations(self.world),
            self.models,
            self.endpoints,
            self.predictions,
            self.jobs,
        ]

    def _records(self) -> list[Records[Any]]:
        registry = self.registry
        return [
            self.operations.records,
            self.operations.requests,
            registry.models,
            registry.versions,
            self.models.records,
            self.endpoints.records,
            self.jobs.records,
        ]

    @property
    def faults(self) -> Faults:
        """Arm one to make something go wrong."""
        return self.world.faults

    @property
    def storage(self) -> Storage:
        """Buckets and objects."""
        return self.world.storage

    @property
    def place(self) -> Place:
        """Project and regions."""
        return self.world.place

    @property
    def url(self) -> str:
        """Where REST is asked; `api_endpoint` of clients, and STORAGE_EMULATOR_HOST."""
        return self._http.url

    @property
    def grpc_address(self) -> str:
        """Where gRPC is asked, as a channel takes it."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self._grpc.port}"

    @property
    def parent(self) -> str:
        """The usual location's name, as clients write it."""
        return f"projects/{self.place.project}/locations/{self.place.regions[0]}"

    def handle(self, request: Request) -> Response:
        """Answer one request of HTTP, whichever service it is for."""
        if request.path == CONTROL_PATH:
            status, document = self.faults.control(request.method, request.read())
            headers = {"Content-Type": "application/json"}
            return Response(status=status, headers=headers, body=json.dumps(document).encode())
        if projects.is_for(request.path):
            return projects.handle(self.place, request)
        if self.transfers.is_for(request.path):
            answer = self.transfers.handle(request)
            if self._disk is not None:
                self._disk.save()
            return answer
        if rest.is_for(request.path):
            return rest.handle(self.api, request)
        if self.observing.is_for(request.path):
            return self.observing.handle(request)
        response = handle_storage(self.storage, request)
        if self._disk is not None and request.method not in ("GET", "HEAD"):
            self._disk.save()
        return response

    def close(self) -> None:
        """Stop answering, end every process, and keep what is to be kept."""
        self._scaler.close()
        self._http.close()
        self._grpc.close()
        with self.world.lock:
            self._save()
            self.jobs.close()
        self.deployments.close()
        if self._disk is not None:
            # What came there by other ways than requests, too.
            self._disk.save()

    def __enter__(self) -> Google:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _advance(self) -> None:
        self.operations.advance()
        self.jobs.advance()

    def _save(self) -> None:
        if self._state is not None:
            self._state.save()

    def _method(self, path: str) -> Any:
        return projects.grpc_method(self.place, path)


@contextmanager
def google(**options: Any) -> Iterator[Google]:
    """Emulate Google Cloud for as long as the block lasts.

    ::

        with google(polls=0) as cloud:
            client = ModelServiceClient(
                credentials=AnonymousCredentials(),
                transport="rest",
                client_options={"api_endpoint": cloud.url},
            )

    Args:
        **options: Of `Google`.
    """
    with Google(**options) as emulator:
        yield emulator
