"""What ModelService refuses, in which words, over REST and over gRPC alike."""

from __future__ import annotations

from typing import Any

import pytest

INVALID, PRECONDITION = "INVALID_ARGUMENT", "FAILED_PRECONDITION"
IMAGE = "us-central1-docker.pkg.dev/project/images/server:1"
KEY = "projects/p/locations/europe-west4/keyRings/r/cryptoKeys/k"


def container(**fields: Any) -> dict[str, Any]:
    return {"container_spec": {"image_uri": IMAGE, **fields}}


# Field, what is sent, and where the rule is written down: the SDK's protos unless it says other.
UPLOADS = [
    ("display_name", {"display_name": ""}, "Model.display_name"),
    ("display_name", {"display_name": "x" * 129}, "Model.display_name"),
    ("container_spec", {"container_spec": None}, "Model.container_spec"),
    ("container_spec.image_uri", container(image_uri=""), "ModelContainerSpec.image_uri"),
    ("container_spec.ports", container(ports=[{"container_port": 0}]), "Port.container_port"),
    ("container_spec.ports", container(ports=[{"container_port": 65536}]), "Port.container_port"),
    ("container_spec.predict_route", container(predict_route="predict"), "an HTTP path"),
    ("container_spec.health_route", container(health_route="ping"), "an HTTP path"),
    ("container_spec.env", container(env=[{"name": "A-B", "value": "1"}]), "EnvVar.name"),
    (
        "container_spec.env",
        container(env=[{"name": f"V{n}", "value": "1"} for n in range(101)]),
        "REST reference: at most 100",
    ),
    (
        "container_spec.deployment_timeout",
        container(deployment_timeout={"seconds": 7201}),
        "ModelContainerSpec.deployment_timeout",
    ),
    (
        "container_spec.shared_memory_size_mb",
        container(shared_memory_size_mb=-1),
        "ModelContainerSpec.shared_memory_size_mb",
    ),
    (
        "container_spec.invoke_route_prefix",
        container(invoke_route_prefix="/foo"),
        "ModelContainerSpec.invoke_route_prefix",
    ),
    (
        "container_spec.invoke_route_prefix",
        container(invoke_route_prefix="/*", predict_route="/p"),
        "ModelContainerSpec.invoke_route_prefix",
    ),
    (
        "container_spec.health_probe.period_seconds",
        container(health_probe={"period_seconds": -1}),
        "Probe.period_seconds",
    ),
    (
        "container_spec.startup_probe.http_get.scheme",
        container(startup_probe={"http_get": {"path": "/", "port": 1, "scheme": "FTP"}}),
        "HttpGetAction.scheme",
    ),
    (
        "container_spec.liveness_probe.tcp_socket.port",
        container(liveness_probe={"tcp_socket": {"port": 70000}}),
        "TcpSocketAction.port",
    ),
    (
        "container_spec.startup_probe.exec.command",
        container(startup_probe={"exec_": {"command": []}}),
        "ExecAction.command",
    ),
    ("version_aliases", {"version_aliases": ["1"]}, "Model.version_aliases"),
    ("version_aliases", {"version_aliases": ["prod_eu"]}, "Model.version_aliases"),
    ("version_aliases", {"version_aliases": ["x"]}, "Model.version_aliases: two characters"),
    ("version_aliases", {"version_aliases": ["-old"]}, "Model.version_aliases"),
    ("labels", {"labels": {"Team": "a"}}, "labels-overview"),
    ("labels", {"labels": {"1team": "a"}}, "labels-overview"),
    ("labels", {"labels": {"team": "A"}}, "labels-overview"),
    ("labels", {"labels": {"team": "a" * 64}}, "labels-overview"),
    ("labels", {"labels": {f"l{n}": "" for n in range(65)}}, "labels-overview: 64 a resource"),
    ("artifact_uri", {"artifact_uri": "s3://bucket/model"}, "Model.artifact_uri"),
    (
        "encryption_spec.kms_key_name",
        {"encryption_spec": {"kms_key_name": "key"}},
        "EncryptionSpec.kms_key_name",
    ),
    (
        "encryption_spec.kms_key_name",
        {"encryption_spec": {"kms_key_name": KEY}},
        "EncryptionSpec.kms_key_name: the same region",
    ),
]


@pytest.mark.parametrize(("field", "fields", "source"), UPLOADS, ids=lambda _: "")
def test_no_such_model(cloud: Any, field: str, fields: dict[str, Any], source: str) -> None:
    """A model that breaks a written rule is refused by the name of the field, and not made."""
    before = [model.name for model in cloud.models.list_models(parent=cloud.parent)]

    code, message = cloud.refused(lambda: cloud.begin(**fields))

    assert (code, f"Field: model.{field};" in message) == (INVALID, True), (message, source)
    assert [model.name for model in cloud.models.list_models(parent=cloud.parent)] == before


def test_no_model_at_all(cloud: Any) -> None:
    """An upload of nothing lacks its required field (UploadModelRequest.model)."""
    code, message = cloud.refused(lambda: cloud.models.upload_model({"parent": cloud.parent}))

    assert (code, "model; Message: Required field is not set." in message) == (INVALID, True)


@pytest.mark.parametrize("name", ["Churn", "1churn", "-churn", "a" * 64, "ch urn", "churn@1"])
def test_no_such_id(cloud: Any, name: str) -> None:
    """A model's id has small letters, and begins with none of digits and hyphens (model_id)."""
    code, message = cloud.refused(lambda: cloud.begin(name))

    assert (code, "Field: model_id;" in message) == (INVALID, True)


def test_id_taken(cloud: Any) -> None:
    """A model is made once: 409 for the second that wants its id."""
    name = cloud.upload()

    code, _ = cloud.refused(lambda: cloud.begin(name.rpartition("/")[2]))

    assert code == "ALREADY_EXISTS"
    assert cloud.aliases(name) == {"1": {"default"}}


@pytest.mark.parametrize(
    ("parent_model", "code"),
    [
        ("{parent}/models/nobody", "NOT_FOUND"),
        ("churn", INVALID),
        ("projects/other/locations/us-central1/models/churn", INVALID),
        ("projects/emulated-project/locations/europe-west4/models/churn", INVALID),
    ],
)
def test_no_such_parent(cloud: Any, parent_model: str, code: str) -> None:
    """A version needs its model, in the same place (UploadModelRequest.parent_model)."""
    wanted = parent_model.format(parent=cloud.parent)

    assert cloud.refused(lambda: cloud.begin(parent_model=wanted))[0] == code


def test_id_beside_a_parent(cloud: Any) -> None:
    """A version has its model's id and no other."""
    name = cloud.upload()

    code, message = cloud.refused(lambda: cloud.begin("other", parent_model=name))

    assert (code, "model_id" in message) == (INVALID, True)


def test_artifacts_elsewhere(cloud: Any) -> None:
    """Artifacts lie in the service's own region, and multi-regions are another (#885)."""
    name = f"us-{cloud.upload().rpartition('/')[2]}"
    cloud.bucket(name, location="US", churn__weights=b"1")

    code, message = cloud.refused(lambda: cloud.begin(artifact_uri=f"gs://{name}/churn"))

    assert code == PRECONDITION
    assert message == (
        f"The Cloud Storage bucket of `gs://{name}/churn` is in location `us`. It must be in the "
        "same regional location as the service location `us-central1`."
    )


@pytest.mark.parametrize("directory", ["chu", "nobody", "churn/weights"])
def test_artifacts_missing(cloud: Any, directory: str) -> None:
    """A directory of artifacts has files below its name."""
    name = f"eu-{cloud.upload().rpartition('/')[2]}"
    cloud.bucket(name, churn__weights=b"1")

    code, _ = cloud.refused(lambda: cloud.begin(artifact_uri=f"gs://{name}/{directory}"))

    assert code == PRECONDITION
    assert cloud.begin(artifact_uri=f"gs://{name}/churn/").result().model


def test_bucket_missing(cloud: Any) -> None:
    """Artifacts lie in a bucket that exists."""
    code, _ = cloud.refused(lambda: cloud.begin(artifact_uri="gs://nobodys/churn"))

    assert code == PRECONDITION


@pytest.mark.parametrize("version", ["", "@1", "@prod", "@default", "@-"])
def test_get_nobody(cloud: Any, version: str) -> None:
    """What is not there is not found, under whichever name."""
    name = f"{cloud.parent}/models/nobody{version}"

    assert cloud.refused(lambda: cloud.models.get_model(name=name))[0] == "NOT_FOUND"


@pytest.mark.parametrize("version", ["2", "prod", "01"])
def test_get_no_version(cloud: Any, version: str) -> None:
    """A version is found by its number and its aliases alone."""
    name = cloud.upload()

    refused = cloud.refused(lambda: cloud.models.get_model(name=f"{name}@{version}"))

    assert refused[0] == "NOT_FOUND"


@pytest.mark.parametrize(
    ("aliases", "version", "code"),
    [
        (["prod"], "", INVALID),
        ([], "@1", INVALID),
        (["-default"], "@1", INVALID),
        (["Prod!"], "@1", INVALID),
        (["12"], "@1", INVALID),
        (["prod"], "@7", "NOT_FOUND"),
    ],
)
def test_no_such_aliases(cloud: Any, aliases: list[str], version: str, code: str) -> None:
    """Aliases are words, and default is given on and never taken (MergeVersionAliasesRequest)."""
    name = cloud.upload()
    request = {"name": f"{name}{version}", "version_aliases": aliases}

    assert cloud.refused(lambda: cloud.models.merge_version_aliases(request))[0] == code
    assert cloud.aliases(name) == {"1": {"default"}}


# UpdateModelRequest.model, points 4 to 6.
UPDATES = [
    ("", {"version_description": "x"}, ["version_description"], PRECONDITION),
    ("@1", {"description": "x"}, ["description"], PRECONDITION),
    ("@1", {"display_name": "x"}, ["display_name", "labels"], PRECONDITION),
    ("", {"description": "x"}, ["description", "version_description"], PRECONDITION),
    ("", {"artifact_uri": "gs://x"}, ["artifact_uri"], INVALID),
    ("", {"version_aliases": ["prod"]}, ["version_aliases"], INVALID),
    ("", {"description": "x"}, ["nonsense"], INVALID),
    ("", {"description": "x"}, [], INVALID),
    ("", {"display_name": ""}, ["display_name"], INVALID),
    ("", {"labels": {"A": "b"}}, ["labels"], INVALID),
    ("@9", {"version_description": "x"}, ["version_description"], "NOT_FOUND"),
]


@pytest.mark.parametrize(("version", "fields", "mask", "code"), UPDATES, ids=lambda _: "")
def test_no_such_update(
    cloud: Any, version: str, fields: dict[str, Any], mask: list[str], code: str
) -> None:
    """A model's fields and a version's are updated apart, and no others are."""
    name = cloud.upload(description="before")
    request = {"model": {"name": name + version, **fields}, "update_mask": {"paths": mask}}

    assert cloud.refused(lambda: cloud.models.update_model(request))[0] == code
    assert cloud.models.get_model(name=name).description == "before"


def test_stale_etag(cloud: Any) -> None:
    """An update with an etag that is not the present one is aborted (metadata/context.py)."""
    name = cloud.upload()
    old = cloud.models.get_model(name=name)
    mask = {"paths": ["description"]}
    cloud.models.update_model({"model": {"name": name, "description": "a"}, "update_mask": mask})
    request = {"model": {"name": name, "description": "b", "etag": old.etag}, "update_mask": mask}

    code, message = cloud.refused(lambda: cloud.models.update_model(request))

    assert (code, old.etag in message) == ("ABORTED", True)
    assert cloud.models.get_model(name=name).description == "a"


def test_last_version(cloud: Any) -> None:
    """The only version goes with its model alone (deleteVersion)."""
    name = cloud.upload()

    code, _ = cloud.refused(lambda: cloud.models.delete_model_version(name=f"{name}@1"))

    assert code == PRECONDITION


@pytest.mark.parametrize(
    ("verb", "version", "code"),
    [
        ("delete_model_version", "", INVALID),
        ("delete_model_version", "@9", "NOT_FOUND"),
        ("delete_model", "@1", INVALID),
    ],
)
def test_no_such_deletion(cloud: Any, verb: str, version: str, code: str) -> None:
    """A version is deleted by a name that has one, and a model by a name that has none."""
    name = cloud.upload()

    assert cloud.refused(lambda: getattr(cloud.models, verb)(name=name + version))[0] == code
    assert cloud.aliases(name) == {"1": {"default"}}


@pytest.mark.parametrize("version", [None, "1"])
def test_deployed(cloud: Any, monkeypatch: pytest.MonkeyPatch, version: str | None) -> None:
    """What is deployed is not deleted (delete, deleteVersion)."""
    name = cloud.upload()
    cloud.upload(parent_model=name)
    endpoint = f"{cloud.canonical}/endpoints/1"
    reference = (
        type(cloud.emulator.registry.resolve(name))
        .DESCRIPTOR.fields_by_name["deployed_models"]
        .message_type._concrete_class
    )
    deployed = {("1"): [reference(endpoint=endpoint, deployed_model_id="5")]}
    monkeypatch.setattr(
        cloud.emulator.registry,
        "deployed",
        lambda model, number: deployed.get(number or "1", []) if model == name else [],
    )
    act = (
        (lambda: cloud.models.delete_model(name=name))
        if version is None
        else (lambda: cloud.models.delete_model_version(name=f"{name}@{version}"))
    )

    code, message = cloud.refused(act)

    assert (code, endpoint in message) == (PRECONDITION, True)
    assert [one.endpoint for one in cloud.models.get_model(name=f"{name}@1").deployed_models] == [
        endpoint
    ]
    cloud.models.delete_model_version(name=f"{name}@2").result(timeout=20)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"source_model": "{parent}/models/nobody"}, "NOT_FOUND"),
        ({"source_model": "nobody"}, INVALID),
        ({"source_model": "projects/other/locations/us-central1/models/churn"}, INVALID),
        ({"model_id": "Nobody"}, INVALID),
        ({"parent_model": "{parent}/models/nobody"}, "NOT_FOUND"),
        ({"encryption_spec": {"kms_key_name": KEY}}, INVALID),
    ],
)
def test_no_such_copy(cloud: Any, fields: dict[str, Any], code: str) -> None:
    """A copy has a source in the same project, and a place that it can have (CopyModelRequest)."""
    fields = {
        name: value.format(parent=cloud.parent) if isinstance(value, str) else value
        for name, value in fields.items()
    }
    request = {"parent": cloud.parent, "source_model": cloud.upload(), **fields}

    assert cloud.refused(lambda: cloud.models.copy_model(request))[0] == code


def test_copy_to_a_taken_id(cloud: Any) -> None:
    """A copy makes no version of a model that it was not given as a parent."""
    name = cloud.upload()
    request = {"parent": cloud.parent, "source_model": name, "model_id": name.rpartition("/")[2]}

    assert cloud.refused(lambda: cloud.models.copy_model(request))[0] == "ALREADY_EXISTS"


def test_not_emulated(cloud: Any) -> None:
    """What is not emulated says so by name."""
    name = cloud.upload()
    request = {"name": name, "output_config": {"export_format_id": "custom-trained"}}

    code, message = cloud.refused(lambda: cloud.models.export_model(request))

    assert (code, "ModelService.ExportModel" in message) == ("UNIMPLEMENTED", True)


@pytest.mark.parametrize(
    ("parent", "code", "words"),
    [
        (
            "projects/emulated-project/locations/asia-east1",
            INVALID,
            # https://github.com/googleapis/python-aiplatform/issues/1684
            "The provided location ID doesn't match the endpoint. The valid location ID is "
            "`us-central1`.",
        ),
        (
            "projects/other/locations/us-central1",
            "PERMISSION_DENIED",
            # https://github.com/GoogleCloudPlatform/training-data-analyst/issues/1811
            "Permission denied on resource project other.",
        ),
    ],
)
def test_elsewhere(cloud: Any, parent: str, code: str, words: str) -> None:
    """A region is asked for its own resources, and a project by those who may."""
    refused = cloud.refused(lambda: cloud.models.list_models(parent=parent))

    assert (refused[0], words in refused[1]) == (code, True)
