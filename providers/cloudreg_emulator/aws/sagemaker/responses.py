"""SageMaker's operations: validate, take the faults, ask the backend."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from moto.core.common_types import TYPE_RESPONSE
from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import get_service_model
from moto.sagemaker.models import sagemaker_backends
from moto.sagemaker.responses import SageMakerResponse as MotoResponse

from cloudreg_emulator.aws.refusing import refusal
from cloudreg_emulator.aws.sagemaker.errors import invalid
from cloudreg_emulator.aws.sagemaker.models import SageMakerBackend
from cloudreg_emulator.aws.sagemaker.place import without_empty
from cloudreg_emulator.aws.sagemaker.search import matches
from cloudreg_emulator.aws.sagemaker.shelf import Shelf, page
from cloudreg_emulator.aws.validate import complaints, message
from cloudreg_emulator.aws.world import current, hang_up
from cloudreg_emulator.faults import Fault

__all__ = ["SageMakerResponse"]

JSON = "application/x-amz-json-1.1"

_PACKAGE_SUMMARY = (
    "ModelPackageName",
    "ModelPackageGroupName",
    "ModelPackageVersion",
    "ModelPackageArn",
    "ModelPackageDescription",
    "CreationTime",
    "ModelPackageStatus",
    "ModelApprovalStatus",
    "ModelLifeCycle",
    "ModelPackageRegistrationType",
)
_BATCH_SUMMARY = (
    "ModelPackageGroupName",
    "ModelPackageVersion",
    "ModelPackageArn",
    "ModelPackageDescription",
    "CreationTime",
    "InferenceSpecification",
    "ModelPackageStatus",
    "ModelApprovalStatus",
    "ModelPackageRegistrationType",
)
_GROUP_SUMMARY = (
    "ModelPackageGroupName",
    "ModelPackageGroupArn",
    "ModelPackageGroupDescription",
    "CreationTime",
    "ModelPackageGroupStatus",
    "ManagedConfiguration",
)
_HEAVY = ("InferenceSpecification", "ModelMetrics", "DriftCheckBaselines", "ModelCard")
"""What IncludedData=MetadataOnly leaves out of DescribeModelPackage."""


class SageMakerResponse(MotoResponse):
    """Every operation of this emulator; those that are not here are moto's."""

    @property
    def here(self) -> SageMakerBackend:
        """The backend of the request's account and region."""
        backend = sagemaker_backends[self.current_account][self.region]
        assert isinstance(backend, SageMakerBackend)
        return backend

    def call_action(self) -> TYPE_RESPONSE:
        """Answer one request."""
        name = self._get_action()
        return current().faults.guarded("sagemaker", name, self._answer, spoiled=self._spoiled)

    def _answer(self) -> TYPE_RESPONSE:
        name = self._get_action()
        shape = get_service_model("sagemaker").operation_model(name).input_shape
        found = complaints(shape, self.params) if shape is not None else []
        if found:
            return self._error(ActionResult(invalid(message(found))))
        try:
            with self.here.lock:
                return super().call_action()
        except NotImplementedError:
            # moto's server would answer with a page of HTML, which clients retry for minutes.
            return self._plain(
                400, "UnknownOperationException", f"{name} is not emulated: see the README."
            )

    def _error(self, result: ActionResult) -> TYPE_RESPONSE:
        status, headers, body = self.serialized(result)
        headers["status"] = str(status)
        return status, headers, body

    def _plain(self, status: int, code: str, words: str) -> TYPE_RESPONSE:
        headers = {**self.response_headers, "Content-Type": JSON, "status": str(status)}
        return status, headers, json.dumps({"__type": code, "message": words})

    def _spoiled(self, fault: Fault) -> TYPE_RESPONSE:
        refused = refusal(fault, service="sagemaker", operation=self._get_action())
        if refused is not None:
            return self._plain(*refused)
        if not fault.status:
            hang_up(self.normalized_request)
        code = "ServiceUnavailable" if fault.status == 503 else "InternalFailure"
        return self._plain(fault.status, code, "The request failed; try again.")

    def _listed(self, shelf: Shelf) -> list[Mapping[str, Any]]:
        self.here.advance()
        return shelf.listed(current().faults, self._get_action())

    def _page(
        self, key: str, shelf: Shelf, fields: tuple[str, ...] | None, **how: Any
    ) -> ActionResult:
        shown, token = page(self._listed(shelf), self.params, **how)
        picked = [
            without_empty({k: one.get(k) for k in fields} if fields else one)
            for one in map(_shown, shown)
        ]
        return ActionResult(without_empty({key: picked, "NextToken": token}))

    # The registry.

    def create_model_package_group(self) -> ActionResult:  # the operation's name
        return ActionResult({"ModelPackageGroupArn": self.here.registry.create_group(self.params)})

    def describe_model_package_group(self) -> ActionResult:
        return ActionResult(self.here.registry.group(self.params["ModelPackageGroupName"]))

    def list_model_package_groups(self) -> ActionResult:
        return self._page(
            "ModelPackageGroupSummaryList",
            self.here.registry.groups,
            _GROUP_SUMMARY,
            name="ModelPackageGroupName",
            order="Ascending",
        )

    def delete_model_package_group(self) -> ActionResult:
        self.here.registry.delete_group(self.params["ModelPackageGroupName"])
        return EmptyResult()

    def put_model_package_group_policy(self) -> ActionResult:
        name, policy = self.params["ModelPackageGroupName"], self.params["ResourcePolicy"]
        return ActionResult({"ModelPackageGroupArn": self.here.registry.put_policy(name, policy)})

    def get_model_package_group_policy(self) -> ActionResult:
        name = self.params["ModelPackageGroupName"]
        return ActionResult({"ResourcePolicy": self.here.registry.policy(name)})

    def delete_model_package_group_policy(self) -> ActionResult:
        self.here.registry.delete_policy(self.params["ModelPackageGroupName"])
        return EmptyResult()

    def create_model_package(self) -> ActionResult:
        here = self.here
        arn = here.registry.create_package(self.params, model=here.hosting.containers_of)
        return ActionResult({"ModelPackageArn": arn})

    def describe_model_package(self) -> ActionResult:
        body = _shown(self.here.registry.package(self.params["ModelPackageName"]))
        if self.params.get("IncludedData") == "MetadataOnly":
            body = {key: value for key, value in body.items() if key not in _HEAVY}
        return ActionResult(body)

    def update_model_package(self) -> ActionResult:
        return ActionResult({"ModelPackageArn": self.here.registry.update_package(self.params)})

    def delete_model_package(self) -> ActionResult:
        self.here.registry.delete_package(self.params["ModelPackageName"])
        return EmptyResult()

    def list_model_packages(self) -> ActionResult:
        asked = self.params
        reference = asked.get("ModelPackageGroupName")
        group = self.here.registry.group(reference)["ModelPackageGroupName"] if reference else None
        # ModelPackageType in the service model: unversioned ones where nothing is asked for.
        kind = asked.get("ModelPackageType") or ("Versioned" if group else "Unversioned")
        status = asked.get("ModelApprovalStatus")

        def keep(body: Mapping[str, Any]) -> bool:
            versioned = "ModelPackageVersion" in body
            return (
                (group is None or body.get("ModelPackageGroupName") == group)
                and (kind == "Both" or versioned == (kind == "Versioned"))
                and (status is None or body.get("ModelApprovalStatus") == status)
            )

        return self._page(
            "ModelPackageSummaryList",
            self.here.registry.packages,
            _PACKAGE_SUMMARY,
            name="ModelPackageName",
            keep=keep,
            order="Ascending",
        )

    def batch_describe_model_package(self) -> ActionResult:
        found, failed = self.here.registry.described(self.params["ModelPackageArnList"])
        shown = {a: {k: b[k] for k in _BATCH_SUMMARY if k in b} for a, b in found.items()}
        return ActionResult(
            {"ModelPackageSummaries": shown, "BatchDescribeModelPackageErrorMap": failed}
        )

    def search(self) -> ActionResult:
        resource = self.params["Resource"]
        here = self.here
        known: dict[str, tuple[Shelf, str, str]] = {
            "ModelPackage": (here.registry.packages, "ModelPackageName", "ModelPackageArn"),
            "ModelPackageGroup": (
                here.registry.groups,
                "ModelPackageGroupName",
                "ModelPackageGroupArn",
            ),
            "Endpoint": (here.deployments.shelf, "EndpointName", "EndpointArn"),
        }
        if resource not in known:
            return super().search()
        shelf, name, arn = known[resource]
        bodies = [
            {**self._searched(resource, one), "Tags": here.tags.of(str(one[arn]))}
            for one in self._listed(shelf)
        ]
        asked = self.params.get("SearchExpression")
        request = {k: v for k, v in self.params.items() if k != "SortBy"}
        field = self.params.get("SortBy")
        if field and field not in (name, "CreationTime", "LastModifiedTime"):
            raise invalid(f"SortBy {field} is not supported for {resource}.")
        keys = {one: one for one in (name, "LastModifiedTime")}
        shown, token = page(
            bodies,
            {**request, "SortBy": field} if field else request,
            name=name,
            keep=lambda body: matches(body, asked),
            sort=keys,
        )
        records = [{resource: without_empty(_shown(one))} for one in shown]
        return ActionResult(without_empty({"Results": records, "NextToken": token}))

    def _searched(self, resource: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        if resource != "Endpoint":
            return body
        return self.here.deployments.get(str(body["EndpointName"])).describe()

    # Tags.

    def add_tags(self) -> ActionResult:
        return ActionResult(
            {"Tags": self.here.tag(self.params["ResourceArn"], self.params["Tags"])}
        )

    def list_tags(self) -> ActionResult:
        # A resource has at most 50 tags, and a page at least as many: there is one page.
        return ActionResult({"Tags": self.here.tags_of(self.params["ResourceArn"])})

    def delete_tags(self) -> ActionResult:
        self.here.untag(self.params["ResourceArn"], self.params["TagKeys"])
        return EmptyResult()

    # Hosting.

    def create_model(self) -> ActionResult:
        return ActionResult({"ModelArn": self.here.hosting.create_model(self.params)})

    def describe_model(self) -> ActionResult:
        return ActionResult(without_empty(self.here.hosting.model(self.params["ModelName"])))

    def list_models(self) -> ActionResult:
        fields = ("ModelName", "ModelArn", "CreationTime")
        return self._page("Models", self.here.hosting.models, fields, name="ModelName")

    def delete_model(self) -> ActionResult:
        self.here.hosting.delete_model(self.params["ModelName"])
        return EmptyResult()

    def create_endpoint_config(self) -> ActionResult:
        return ActionResult({"EndpointConfigArn": self.here.hosting.create_config(self.params)})

    def describe_endpoint_config(self) -> ActionResult:
        name = self.params["EndpointConfigName"]
        return ActionResult(without_empty(self.here.hosting.config(name)))

    def list_endpoint_configs(self) -> ActionResult:
        fields = ("EndpointConfigName", "EndpointConfigArn", "CreationTime")
        shelf = self.here.hosting.configs
        return self._page("EndpointConfigs", shelf, fields, name="EndpointConfigName")

    def delete_endpoint_config(self) -> ActionResult:
        self.here.hosting.delete_config(self.params["EndpointConfigName"])
        return EmptyResult()

    # Endpoints.

    def create_endpoint(self) -> ActionResult:
        return ActionResult({"EndpointArn": self.here.deployments.create(self.params)})

    def describe_endpoint(self) -> ActionResult:
        return ActionResult(self.here.deployments.describe(self.params["EndpointName"]))

    def update_endpoint(self) -> ActionResult:
        return ActionResult({"EndpointArn": self.here.deployments.update(self.params)})

    def update_endpoint_weights_and_capacities(self) -> ActionResult:
        name, wanted = self.params["EndpointName"], self.params["DesiredWeightsAndCapacities"]
        return ActionResult({"EndpointArn": self.here.deployments.rescale(name, wanted)})

    def delete_endpoint(self) -> ActionResult:
        name = self.params["EndpointName"]
        components = [one.name for one in self.here.components.on(name)]
        self.here.deployments.delete(name, components=components)
        return EmptyResult()

    def list_endpoints(self) -> ActionResult:
        status = self.params.get("StatusEquals")
        return self._page(
            "Endpoints",
            self.here.deployments.shelf,
            None,
            name="EndpointName",
            keep=lambda body: status is None or body["EndpointStatus"] == status,
            sort={"Status": "EndpointStatus"},
        )

    # Inference components.

    def create_inference_component(self) -> ActionResult:
        return ActionResult({"InferenceComponentArn": self.here.components.create(self.params)})

    def describe_inference_component(self) -> ActionResult:
        return ActionResult(self.here.components.describe(self.params["InferenceComponentName"]))

    def update_inference_component(self) -> ActionResult:
        return ActionResult({"InferenceComponentArn": self.here.components.update(self.params)})

    def update_inference_component_runtime_config(self) -> ActionResult:
        name = self.params["InferenceComponentName"]
        copies = self.params["DesiredRuntimeConfig"]["CopyCount"]
        return ActionResult({"InferenceComponentArn": self.here.components.rescale(name, copies)})

    def delete_inference_component(self) -> ActionResult:
        self.here.components.delete(self.params["InferenceComponentName"])
        return EmptyResult()

    def list_inference_components(self) -> ActionResult:
        wanted = {
            "InferenceComponentStatus": self.params.get("StatusEquals"),
            "EndpointName": self.params.get("EndpointNameEquals"),
            "VariantName": self.params.get("VariantNameEquals"),
        }
        return self._page(
            "InferenceComponents",
            self.here.components.shelf,
            None,
            name="InferenceComponentName",
            keep=lambda body: all(v is None or body[k] == v for k, v in wanted.items()),
            sort={"Status": "InferenceComponentStatus"},
        )

    # Batch transform.

    def create_transform_job(self) -> ActionResult:
        return ActionResult({"TransformJobArn": self.here.transforms.create(self.params)})

    def describe_transform_job(self) -> ActionResult:
        return ActionResult(self.here.transforms.describe(self.params["TransformJobName"]))

    def stop_transform_job(self) -> ActionResult:
        self.here.transforms.end(self.params["TransformJobName"])
        return EmptyResult()

    def list_transform_jobs(self) -> ActionResult:
        status = self.params.get("StatusEquals")
        return self._page(
            "TransformJobSummaries",
            self.here.transforms.shelf,
            None,
            name="TransformJobName",
            keep=lambda body: status is None or body["TransformJobStatus"] == status,
            sort={"Status": "TransformJobStatus"},
        )


def _shown(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a resource as its owner sees it: a version has its group's name, and none of its own.

    Source: the answers to ListModelPackages and DescribeModelPackage that are printed in
    https://docs.aws.amazon.com/sagemaker/latest/dg/model-registry-details.html. The SDK relies on
    it: where a package has a name, `ModelPackage.refresh` asks for that one and not for its ARN.
    """
    unnamed = {"ModelPackageName"} if "ModelPackageVersion" in body else frozenset()
    return {key: value for key, value in body.items() if key not in unnamed}
