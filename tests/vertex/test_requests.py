"""Specs as requests to Vertex AI, and its messages as nouns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from google.cloud import aiplatform_v1 as v1

from cloudreg.errors import ConfigError, InvalidRequest, Unsupported
from cloudreg.types import (
    EndpointSpec,
    EndpointStatus,
    FileEntry,
    Manifest,
    ModelVersion,
    Resources,
    Runtime,
    Scaling,
    ScalingMetric,
    Variant,
)
from cloudreg_vertex import PLUGIN, labels, models, requests, wire

IMAGE = "europe-west4-docker.pkg.dev/our-project/serve/cloudreg:1"
SECTION = {
    "project": "our-project",
    "location": "europe-west4",
    "bucket": "our-models",
    "prefix": "team",
    "image": IMAGE,
}


def version(number: int, *, image: str | None = None, **metrics: float) -> ModelVersion:
    runtime = Runtime(kind="custom", image=image) if image else None
    manifest = Manifest(
        files=(FileEntry(path="w", size=3, sha256=f"{number:064}"),),
        runtime=runtime,
        metrics=metrics,
    )
    return ModelVersion(
        model="churn",
        number=number,
        digest=manifest.digest,
        manifest=manifest,
        author="ada",
        created_at="2026-01-01T00:00:00Z",
    )


ONE, TWO = version(1), version(2)


def variant(made: ModelVersion, name: str = "primary", weight: int = 100, **more: Any) -> Variant:
    resources = Resources.parse(more.pop("gpu", None), machine_type=more.pop("machine", None))
    return Variant(
        name=name,
        model="churn",
        number=made.number,
        digest=made.digest,
        weight=weight,
        resources=resources,
        scaling=Scaling(**more),
    )


def spec(*variants: Variant, name: str = "churn-prod", **env: str) -> EndpointSpec:
    return EndpointSpec(name=name, stage="prod", variants=variants, env=env)


def settings(**section: Any) -> Any:
    return PLUGIN.settings()(**{**SECTION, **section})


def placed(asked: EndpointSpec, **section: Any) -> list[requests.Placement]:
    """Return the placements; each is proved against the SDK's own message."""
    known = {v.digest: version(v.number) for v in asked.variants}
    found = requests.placements(asked, known, settings(**section), target="gcp")
    for one in found:
        deployed = one.deployed("projects/p/locations/l/models/m@1")
        kind = v1.DeployedModel
        if one.variant.scaling.min_replicas == 0:
            from google.cloud import aiplatform_v1beta1

            kind = aiplatform_v1beta1.DeployedModel
        kind(deployed)
        v1.Model(dict(one.model))
    return list(found)


def test_container() -> None:
    """A container gets the files' folder, its version's identity, and the user's words."""
    made = placed(spec(variant(ONE), MARK="x"))[0].model

    assert made["artifact_uri"] == (
        f"gs://our-models/team/versions/{ONE.digest.removeprefix('sha256:')}"
    )
    container = made["container_spec"]
    assert container["image_uri"] == IMAGE
    assert {one["name"]: one["value"] for one in container["env"]} == {
        "MARK": "x",
        "CLOUDREG_PROVIDER": "vertex",
        "CLOUDREG_MODEL": "churn",
        "CLOUDREG_NUMBER": "1",
        "CLOUDREG_DIGEST": ONE.digest,
    }
    assert (container["predict_route"], container["health_route"]) == ("/invocations", "/ping")
    assert labels.identity(made["labels"]) == ("churn", 1, ONE.digest)


def test_machine() -> None:
    """GPU class and count become a machine type with its accelerators."""
    resources = placed(spec(variant(ONE, gpu="L4:2", max_replicas=1)))[0].resources()

    assert resources["machine_spec"] == {
        "machine_type": "g2-standard-24",
        "accelerator_type": "NVIDIA_L4",
        "accelerator_count": 2,
    }
    assert (resources["min_replica_count"], resources["max_replica_count"]) == (1, 1)
    assert "autoscaling_metric_specs" not in resources


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (ScalingMetric.GPU_UTILIZATION, "accelerator/duty_cycle"),
        (ScalingMetric.CPU_UTILIZATION, "cpu/utilization"),
        (ScalingMetric.REQUESTS_PER_MINUTE, "request_count"),
    ],
)
def test_autoscaling(metric: ScalingMetric, name: str) -> None:
    """What the number of replicas follows has Google's own name."""
    scaled = placed(spec(variant(ONE, gpu="T4", max_replicas=3, metric=metric, target=70)))[0]

    assert scaled.resources()["autoscaling_metric_specs"] == [
        {"metric_name": f"aiplatform.googleapis.com/prediction/online/{name}", "target": 70}
    ]


def test_frame() -> None:
    """A frame says what cannot be changed: not the name, the weight or the replicas."""
    frame = placed(spec(variant(ONE)))[0].frame
    same = [
        spec(variant(ONE, "canary", 30), variant(TWO, weight=70)),
        spec(variant(ONE, min_replicas=2, max_replicas=2)),
        replace(spec(variant(ONE)), stage="staging"),
    ]
    other = [
        (spec(variant(TWO)), {}),
        (spec(variant(ONE), MARK="x"), {}),
        (spec(variant(ONE, gpu="T4")), {}),
        (spec(variant(ONE)), {"service_account": "serve@our-project.iam.gserviceaccount.com"}),
        (spec(variant(ONE)), {"spot": True}),
        (spec(variant(ONE)), {"image": f"{IMAGE}1"}),
    ]

    assert {placed(one)[0].frame for one in same} == {frame}
    assert frame not in {placed(one, **section)[0].frame for one, section in other}


def test_own_model() -> None:
    """A model that is made for one endpoint says so, and has an id that Vertex AI takes."""
    asked = spec(variant(ONE), name="e" * 63, MARK="x")
    name, model = requests.own_model(asked, placed(asked)[0])

    assert len(name) <= 63
    assert model["labels"][requests.OWNER] == "e" * 63
    assert labels.identity(model["labels"]) == ("churn", 1, ONE.digest)


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"AIP_MODE": "x"}, "set by Vertex AI itself"),
        ({"CLOUDREG_DIGEST": "x"}, "set by cloudreg itself"),
        ({"GOOGLE_APPLICATION_CREDENTIALS": "x"}, "show credentials"),
        ({f"N{n}": "x" for n in range(97)}, "97 variables, 96 at most"),
    ],
)
def test_environment(env: dict[str, str], said: str) -> None:
    """Variables that a container would not get, or that give something away, are refused."""
    with pytest.raises(InvalidRequest, match=said):
        placed(spec(variant(ONE), **env))


def test_no_image() -> None:
    """Without an image nothing can be started; the hint is a line of the configuration."""
    with pytest.raises(ConfigError, match="names no container image") as refused:
        placed(spec(variant(ONE)), image=None)

    assert (refused.value.hint or "").startswith('image = "')


def test_idle_time() -> None:
    """A replica that scales to zero is idle for as long as Vertex AI allows."""
    with pytest.raises(Unsupported, match="300 to 28800 seconds"):
        placed(spec(variant(ONE, min_replicas=0, scale_in_cooldown_s=60.0)))


def test_short_name() -> None:
    """An endpoint id has two characters there."""
    with pytest.raises(InvalidRequest, match="too short for Vertex AI"):
        placed(spec(variant(ONE), name="e"))


def test_endpoint() -> None:
    """Settings of the target become settings of the endpoint."""
    section = settings(
        kms_key="projects/p/locations/l/keyRings/r/cryptoKeys/k",
        request_log={"table": "bq://p.d.t", "sample_percent": 10},
    )
    made = requests.endpoint_from(spec(variant(ONE)), {"primary": "f"}, section)

    v1.Endpoint(made)
    assert made["dedicated_endpoint_enabled"] is True
    assert made["encryption_spec"]["kms_key_name"].endswith("/k")
    assert made["predict_request_response_logging_config"]["sampling_rate"] == 0.1
    private = requests.endpoint_from(
        spec(variant(ONE)), {}, settings(private_service_connect=("other-project",))
    )
    v1.Endpoint(private)
    assert private["dedicated_endpoint_enabled"] is False


def test_evaluation() -> None:
    """Metrics are an evaluation, and stand in the description."""
    made = version(3, auc=0.91)

    v1.ModelEvaluation(models.evaluation(made, schema="gs://our-models/metrics.yaml"))
    assert models.description(made) == "churn:3 by ada, 2026-01-01T00:00:00Z; auc 0.91"


def deployed(one: requests.Placement, number: str, ready: int = 1) -> dict[str, Any]:
    return {
        **one.deployed("projects/p/locations/l/models/churn@1"),
        "id": number,
        "status": {"available_replica_count": ready},
    }


def endpoint(asked: EndpointSpec, *, ready: int = 1, split: dict[str, int] | None = None) -> Any:
    found = placed(asked)
    frames = {one.variant.name: one.frame for one in found}
    return v1.Endpoint(
        name="projects/1/locations/l/endpoints/churn-prod",
        labels=requests.endpoint_labels(asked, frames),
        deployed_models=[deployed(one, str(n), ready) for n, one in enumerate(found, start=1)],
        traffic_split=split or {str(n): v.weight for n, v in enumerate(asked.variants, start=1)},
        update_time="2026-01-01T00:00:00Z",
    )


def shown(seen: Any, asked: EndpointSpec | None, *, busy: bool = False) -> Any:
    return wire.endpoint_from(seen, asked, name="churn-prod", url="u", busy=busy)


def test_reading_back() -> None:
    """What runs as it was asked for is read back equal."""
    asked = spec(
        variant(ONE, weight=90, gpu="L4", max_replicas=4, metric=ScalingMetric.GPU_UTILIZATION),
        variant(TWO, "canary", 10),
        MARK="x",
    )
    found = shown(endpoint(asked), asked)

    assert found.spec == asked
    assert found.status is EndpointStatus.READY
    assert [(v.name, v.weight, v.ready_replicas) for v in found.variants] == [
        ("primary", 90, 1),
        ("canary", 10, 1),
    ]


def test_edited_in_the_console() -> None:
    """Weights and bounds that somebody changed are those that are shown."""
    asked = spec(variant(ONE, weight=90), variant(TWO, "canary", 10))
    seen = endpoint(asked, split={"1": 50, "2": 50})
    seen.deployed_models[1].dedicated_resources.max_replica_count = 7

    found = shown(seen, asked).spec

    assert [v.weight for v in found.variants] == [50, 50]
    assert [v.scaling.max_replicas for v in found.variants] == [1, 7]


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        (
            lambda seen: seen.deployed_models.clear(),
            EndpointStatus.FAILED,
            "nothing is deployed to it",
        ),
        (lambda seen: seen.deployed_models.pop(), EndpointStatus.DEGRADED, "canary: not deployed"),
        (
            lambda seen: seen.traffic_split.update({"9": 10, "1": 80}),
            EndpointStatus.DEGRADED,
            "somebody sends 10 % to deployed model 9",
        ),
    ],
)
def test_troubles(change: Any, status: EndpointStatus, said: str) -> None:
    """What is not as it should be is told."""
    asked = spec(variant(ONE, weight=90), variant(TWO, "canary", 10))
    seen = endpoint(asked)
    change(seen)

    found = shown(seen, asked)

    assert (found.status, found.message) == (status, said)


def test_nothing_ready() -> None:
    """An endpoint without a ready replica is degraded, and changing while something is done."""
    asked = spec(variant(ONE))

    assert shown(endpoint(asked, ready=0), asked).status is EndpointStatus.DEGRADED
    assert shown(endpoint(asked), asked, busy=True).status is EndpointStatus.UPDATING


def test_strange_labels() -> None:
    """An endpoint whose labels were edited is equal to nothing that is asked for."""
    asked = spec(variant(ONE))
    found = shown(endpoint(asked), None)

    assert found.status is EndpointStatus.DEGRADED
    assert found.spec != asked


def test_twins() -> None:
    """Two variants that are alike have a deployed model each."""
    asked = spec(variant(ONE, weight=40), variant(ONE, "canary", 60))
    found = wire.holders(endpoint(asked))

    assert {name: one.id for name, one in found.items()} == {"canary": "1", "primary": "2"}
