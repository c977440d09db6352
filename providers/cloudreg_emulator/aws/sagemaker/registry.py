"""The model registry: package groups, their versions, policies."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cloudreg_emulator.aws.sagemaker.containers import check_data
from cloudreg_emulator.aws.sagemaker.errors import Refused, conflict, invalid
from cloudreg_emulator.aws.sagemaker.place import Place, now
from cloudreg_emulator.aws.sagemaker.shelf import Shelf
from cloudreg_emulator.aws.sagemaker.tagging import Tags

__all__ = ["Registry"]

Request = Mapping[str, Any]

MOST_METADATA = 50
MOST_SPECIFICATIONS = 15

_REPLACED = (
    "ModelApprovalStatus",
    "ApprovalDescription",
    "ModelPackageRegistrationType",
    "InferenceSpecification",
    "SourceUri",
    "ModelLifeCycle",
)
"""What UpdateModelPackage replaces as a whole; what a request leaves out stays as it was."""


class Registry:
    """Groups and packages of one account in one region."""

    def __init__(self, place: Place, tags: Tags) -> None:
        """Begin with none."""
        self.groups = Shelf()
        self.packages = Shelf()
        self._place = place
        self._tags = tags
        self._policies: dict[str, str] = {}
        # Of deleted groups, too: a group that comes again goes on counting. Deleting the last
        # version does not free its number.
        self._last: dict[str, int] = {}
        self._tokens: dict[str, tuple[Request, str]] = {}

    def create_group(self, request: Request) -> str:
        """Create a group and return its ARN."""
        name = request["ModelPackageGroupName"]
        arn = self._place.arn("model-package-group", name)
        if name in self.groups:
            # Quoted by users, such as https://github.com/aws/sagemaker-python-sdk/issues/3726.
            raise invalid(f"Model Package Group already exists: {arn}")
        self._tags.begin(arn, request.get("Tags"))
        body = {key: value for key, value in request.items() if key != "Tags"}
        self.groups.put(
            name,
            {
                **body,
                "ModelPackageGroupArn": arn,
                "CreationTime": now(),
                "CreatedBy": {},
                "ModelPackageGroupStatus": "Completed",
            },
        )
        return arn

    def group(self, reference: str) -> Mapping[str, Any]:
        """Return a group, by its name or ARN."""
        name = reference.rsplit("/", 1)[-1]
        arn = self._place.arn("model-package-group", name)
        body = self.groups.get(name)
        if body is None or (reference.startswith("arn:") and reference != arn):
            shown = reference if reference.startswith("arn:") else arn
            # As of packages: https://github.com/aws/sagemaker-python-sdk (model registry).
            raise invalid(f"ModelPackageGroup {shown} does not exist.")
        return body

    def delete_group(self, reference: str) -> None:
        """Delete a group that has no versions."""
        group = self.group(reference)
        name, arn = group["ModelPackageGroupName"], group["ModelPackageGroupArn"]
        if any(p.get("ModelPackageGroupName") == name for p in self.packages):
            # ConflictException is modelled; its words are unquoted.
            raise conflict(f"Model Package Group {arn} cannot be deleted: it has Model Packages.")
        self.groups.drop(name)
        self._policies.pop(name, None)
        self._tags.end(arn)

    def put_policy(self, name: str, policy: str) -> str:
        """Attach a resource policy and return the group's ARN."""
        group = self.group(name)
        try:
            stands = isinstance(json.loads(policy), dict)
        except ValueError:
            stands = False
        if not stands:
            raise invalid("The resource policy is not valid JSON.")  # unquoted
        self._policies[name] = policy
        return str(group["ModelPackageGroupArn"])

    def policy(self, name: str) -> str:
        """Return a group's resource policy."""
        group = self.group(name)
        if name not in self._policies:
            # The Terraform provider matches these words (model_package_group_policy.go).
            raise invalid(f"Cannot find resource policy for: {group['ModelPackageGroupArn']}")
        return self._policies[name]

    def delete_policy(self, name: str) -> None:
        """Detach a group's resource policy."""
        self.policy(name)
        del self._policies[name]

    def create_package(self, request: Request, *, model: Any) -> str:
        """Create a package, a version where a group is named, and return its ARN.

        Args:
            request: The parsed request.
            model: Returns the containers of a model, by its ARN.
        """
        asked = {key: value for key, value in request.items() if key != "ClientToken"}
        token = request.get("ClientToken")
        known = self._tokens.get(token) if token else None
        if known and known[1] in self.packages:
            if known[0] != asked:
                # Modelled; that it is raised for this, and its words, are unquoted.
                raise conflict(f"ClientToken {token} was used with other parameters.")
            return known[1]
        body = self._package(asked, model)
        arn = str(body["ModelPackageArn"])
        self._tags.begin(arn, request.get("Tags"))
        self.packages.put(arn, body)
        if "ModelPackageVersion" in body:
            self._last[body["ModelPackageGroupName"]] = body["ModelPackageVersion"]
        if token:
            self._tokens[token] = (asked, arn)
        return arn

    def _package(self, asked: Request, model: Any) -> dict[str, Any]:
        name, reference = asked.get("ModelPackageName"), asked.get("ModelPackageGroupName")
        if name and reference:
            # https://github.com/getmoto/moto/pull/7165, which quotes this and "Missing ARN".
            raise invalid(
                "Both ModelPackageName and ModelPackageGroupName are provided in the input. "
                "Cannot determine which one to use."
            )
        if not name and not reference:
            raise invalid("Missing ARN.")
        body = {key: value for key, value in asked.items() if key != "Tags"}
        body |= self._specification(asked, model)
        check_data(body.get("InferenceSpecification", {}).get("Containers", ()))
        for more in body.get("AdditionalInferenceSpecifications", ()):
            check_data(more["Containers"])
        _check_card(body.get("ModelCard"))
        body |= {
            "CreationTime": now(),
            "CreatedBy": {},
            "ModelPackageStatus": "Completed",
            "ModelPackageStatusDetails": {"ValidationStatuses": [], "ImageScanStatuses": []},
        }
        if name:
            arn = self._place.arn("model-package", name)
            if arn in self.packages:
                raise invalid(f"Model Package already exists: {arn}")
            if asked.get("ModelApprovalStatus"):
                # CreateModelPackage in the service model: "does not apply to unversioned models".
                raise invalid("ModelApprovalStatus is not applicable to unversioned models.")
            return {**body, "ModelPackageArn": arn}
        return {**body, **self._version(asked, self.group(str(reference)))}

    def _version(self, asked: Request, group: Mapping[str, Any]) -> dict[str, Any]:
        if asked.get("Tags"):
            # CreateModelPackage in the service model: "In this case, you cannot supply a tag
            # argument." Unquoted.
            raise invalid("Tags cannot be supplied for a versioned model package.")
        name = group["ModelPackageGroupName"]
        number = self._last.get(name, 0) + 1
        return {
            "ModelPackageName": name,
            "ModelPackageGroupName": name,
            "ModelPackageVersion": number,
            "ModelPackageArn": self._place.arn("model-package", f"{name}/{number}"),
            "ModelApprovalStatus": asked.get("ModelApprovalStatus", "PendingManualApproval"),
            "ModelPackageRegistrationType": asked.get("ModelPackageRegistrationType", "Registered"),
        }

    def _specification(self, asked: Request, model: Any) -> dict[str, Any]:
        """Return the inference specification that ``SourceUri`` stands for."""
        uri = asked.get("SourceUri")
        if not uri:
            return {}
        if asked.get("InferenceSpecification"):
            # sagemaker-core's model_registry.py creates first and updates SourceUri after,
            # for this reason. Unquoted.
            raise invalid("SourceUri and InferenceSpecification cannot be specified together.")
        if ":model-package/" in uri:
            source = self.package(uri)
            kept = ("InferenceSpecification", "AdditionalInferenceSpecifications")
            return {key: source[key] for key in kept if key in source}
        if uri.startswith("arn:") and ":model/" in uri:
            return {"InferenceSpecification": {"Containers": model(uri)}}
        return {}

    def package(self, reference: str) -> Mapping[str, Any]:
        """Return a package, by its ARN, or by ``name`` or ``group/number``."""
        given = reference.startswith("arn:")
        arn = reference if given else self._place.arn("model-package", reference)
        body = self.packages.get(arn)
        if body is None:
            # Quoted: "ModelPackage arn:aws:sagemaker:…:model-package/… does not exist."
            raise invalid(f"ModelPackage {arn} does not exist.")
        return body

    def update_package(self, request: Request) -> str:
        """Change what a request names, and nothing else; return the ARN."""
        before = self.package(request["ModelPackageArn"])
        if "ModelPackageVersion" not in before and request.get("ModelApprovalStatus"):
            raise invalid("ModelApprovalStatus is not applicable to unversioned models.")
        after = dict(before)
        after |= {key: request[key] for key in _REPLACED if request.get(key) is not None}
        check_data(after.get("InferenceSpecification", {}).get("Containers", ()))
        if request.get("ModelCard"):
            _check_card(request["ModelCard"])
            after["ModelCard"] = {**before.get("ModelCard", {}), **request["ModelCard"]}
        metadata = _merged(before, request)
        after.pop("CustomerMetadataProperties", None)
        if metadata:
            after["CustomerMetadataProperties"] = metadata
        added = request.get("AdditionalInferenceSpecificationsToAdd")
        if added:
            after["AdditionalInferenceSpecifications"] = _extended(before, added)
        after["LastModifiedTime"] = now()
        after["LastModifiedBy"] = {}
        self.packages.put(str(before["ModelPackageArn"]), after)
        return str(before["ModelPackageArn"])

    def delete_package(self, reference: str) -> None:
        """Delete a package; its number is not given again."""
        arn = str(self.package(reference)["ModelPackageArn"])
        self.packages.drop(arn)
        self._tags.end(arn)

    def described(self, arns: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return those of some packages that there are, and an error for each of the others."""
        found: dict[str, Any] = {}
        failed: dict[str, Any] = {}
        for arn in arns:
            try:
                found[arn] = self.package(arn)
            except Refused as error:
                failed[arn] = {"ErrorCode": error.code, "ErrorResponse": error.message}
        return found, failed


def _check_card(card: Mapping[str, Any] | None) -> None:
    content = (card or {}).get("ModelCardContent")
    if content is None:
        return
    try:
        stands = isinstance(json.loads(content), dict)
    except ValueError:
        stands = False
    if not stands:
        # ModelCardContent in the service model: "must follow the model card JSON schema".
        raise invalid("ModelCardContent is not a valid model card: it must be a JSON object.")


def _merged(before: Mapping[str, Any], request: Request) -> dict[str, str]:
    metadata = dict(before.get("CustomerMetadataProperties", {}))
    metadata |= request.get("CustomerMetadataProperties") or {}
    for key in request.get("CustomerMetadataPropertiesToRemove") or ():
        metadata.pop(key, None)
    if len(metadata) > MOST_METADATA:
        # CustomerMetadataMap in the service model: at most 50, and so in all. Unquoted.
        raise invalid(
            f"A model package can have at most {MOST_METADATA} customer metadata properties; "
            f"there would be {len(metadata)}."
        )
    return metadata


def _extended(before: Mapping[str, Any], added: Sequence[Mapping[str, Any]]) -> list[Any]:
    all_of_them = [*before.get("AdditionalInferenceSpecifications", ()), *added]
    names = [one["Name"] for one in all_of_them]
    if len(set(names)) < len(names):
        raise invalid("The names of additional inference specifications must be unique.")
    if len(all_of_them) > MOST_SPECIFICATIONS:
        # UpdateModelPackage in the service model: "can not exceed 15".
        raise invalid(
            f"Total number of additional inference specifications can not exceed "
            f"{MOST_SPECIFICATIONS}; there would be {len(all_of_them)}."
        )
    for one in added:
        check_data(one["Containers"])
    return all_of_them
