"""Rules of endpoint configurations that botocore does not know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cloudreg_emulator.aws.sagemaker.errors import invalid

__all__ = ["check_config", "instance_types", "is_component_host"]

Variant = Mapping[str, Any]
Models = Mapping[str, Mapping[str, Any]]


def is_component_host(variant: Variant) -> bool:
    """Return whether a variant has instances for inference components and no model itself."""
    return not variant.get("ModelName")


def instance_types(variant: Variant) -> list[str]:
    """Return the types that a variant may run on, the preferred one first."""
    pools = sorted(variant.get("InstancePools") or (), key=lambda pool: pool["Priority"])
    return [pool["InstanceType"] for pool in pools] or (
        [variant["InstanceType"]] if variant.get("InstanceType") else []
    )


def check_config(request: Mapping[str, Any], models: Models) -> None:
    """Refuse an endpoint configuration that could never serve.

    Args:
        request: Of CreateEndpointConfig.
        models: DescribeModel by name, of all models that the request names.
    """
    production = request["ProductionVariants"]
    shadow = request.get("ShadowProductionVariants") or []
    _check_together(request, production, shadow)
    for variant in (*production, *shadow):
        _check_capacity(variant)
        if variant.get("ServerlessConfig"):
            _check_serverless(request, variant, models)
        else:
            _check_instances(variant)
        if is_component_host(variant):
            _check_component_host(request, variant)
        elif variant.get("ManagedInstanceScaling"):
            # https://github.com/hashicorp/terraform-provider-aws/pull/45926 quotes this.
            raise invalid(
                "ManagedInstanceScaling is only supported for inference component endpoints."
            )


def _check_together(
    request: Mapping[str, Any], production: Sequence[Variant], shadow: Sequence[Variant]
) -> None:
    names = [variant["VariantName"] for variant in (*production, *shadow)]
    if len(set(names)) < len(names):
        # API_ProductionVariant; unquoted.
        raise invalid("Variant names must be unique within an endpoint configuration.")
    if shadow and (len(production) > 1 or len(shadow) > 1):
        # ShadowProductionVariants in the service model: "you can only specify one variant for
        # ProductionVariants and one variant for ShadowProductionVariants". Unquoted.
        raise invalid(
            "Only one production variant and one shadow production variant can be specified."
        )
    if len({is_component_host(variant) for variant in production}) > 1:
        raise invalid("ModelName must be specified for all production variants or for none.")
    if any(v.get("ServerlessConfig") for v in production) and len(names) > 1:
        # https://docs.aws.amazon.com/sagemaker/latest/dg/serverless-endpoints.html, "Feature
        # exclusions": multiple production variants, data capture, VPC, network isolation.
        raise invalid("Serverless endpoints do not support multiple production variants.")
    asynchronous = request.get("AsyncInferenceConfig")
    if asynchronous and not asynchronous["OutputConfig"].get("S3OutputPath"):
        raise invalid("S3OutputPath must be specified in AsyncInferenceConfig.OutputConfig.")


def _check_capacity(variant: Variant) -> None:
    name = variant["VariantName"]
    given = [
        key for key in ("InstanceType", "InstancePools", "ServerlessConfig") if variant.get(key)
    ]
    if len(given) != 1:
        # API_ProductionVariant; unquoted.
        found = " and ".join(given) or "none"
        raise invalid(
            "Specify one of InstanceType, InstancePools and ServerlessConfig for production "
            f"variant {name}; {found} given."
        )
    pools = variant.get("InstancePools") or ()
    for key in ("InstanceType", "Priority"):
        values = [pool[key] for pool in pools]
        if len(set(values)) < len(values):
            raise invalid(f"{key} must be unique in the InstancePools of variant {name}.")


def _check_instances(variant: Variant) -> None:
    name = variant["VariantName"]
    if variant.get("InitialInstanceCount") is None:
        raise invalid(f"InitialInstanceCount must be specified for production variant {name}.")


def _check_serverless(request: Mapping[str, Any], variant: Variant, models: Models) -> None:
    config = variant["ServerlessConfig"]
    name = variant["VariantName"]
    if config["MemorySizeInMB"] % 1024:
        # ProductionVariantServerlessConfig in the service model: "in 1 GB increments". Unquoted.
        raise invalid(f"MemorySizeInMB {config['MemorySizeInMB']} is not a multiple of 1024.")
    if config.get("ProvisionedConcurrency", 0) > config["MaxConcurrency"]:
        # As above: "Should be less than or equal to MaxConcurrency". Unquoted.
        raise invalid("ProvisionedConcurrency must be less than or equal to MaxConcurrency.")
    if variant.get("InitialInstanceCount") is not None:
        raise invalid(f"InitialInstanceCount cannot be specified for serverless variant {name}.")
    for key in ("DataCaptureConfig", "AsyncInferenceConfig", "VpcConfig", "EnableNetworkIsolation"):
        if request.get(key):
            raise invalid(f"Serverless endpoints do not support {key}.")
    if is_component_host(variant):
        raise invalid(f"ModelName must be specified for serverless variant {name}.")
    model = models[variant["ModelName"]]
    for key in ("VpcConfig", "EnableNetworkIsolation"):
        if model.get(key):
            raise invalid(f"Serverless endpoints do not support models with {key}.")
    containers = model.get("Containers") or [model["PrimaryContainer"]]
    if any(container.get("ModelDataSource") for container in containers):
        # Quoted by users as far as "Model with containers that use ModelDataSourc…".
        raise invalid(
            "Model with containers that use ModelDataSource is not supported for serverless "
            "endpoints."
        )


def _check_component_host(request: Mapping[str, Any], variant: Variant) -> None:
    if not request.get("ExecutionRoleArn"):
        # https://github.com/stdapi-ai/stdapi.ai/issues/43: refused with 400. Unquoted.
        raise invalid(
            "ExecutionRoleArn must be specified when ModelName is not specified for production "
            f"variant {variant['VariantName']}."
        )
    if request.get("AsyncInferenceConfig"):
        raise invalid("AsyncInferenceConfig is not supported for inference component endpoints.")
    scaling = variant.get("ManagedInstanceScaling") or {}
    least, most = scaling.get("MinInstanceCount"), scaling.get("MaxInstanceCount")
    if least is not None and most is not None and least > most:
        raise invalid(f"MinInstanceCount {least} must not be greater than MaxInstanceCount {most}.")
