"""Terraform's own AWS provider, pointed at the emulator by the environment alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from cloudreg_emulator.aws.server import AwsServer

CONTAINER = Path(__file__).parents[1] / "fleet" / "container.py"
TERRAFORM = shutil.which("terraform")
PLUGINS = os.environ.get("TERRAFORM_PLUGIN_DIR", "")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        TERRAFORM is None or not PLUGINS,
        reason="NOT TESTED WITH TERRAFORM: it needs terraform on PATH, and TERRAFORM_PLUGIN_DIR "
        "with the folder that holds registry.terraform.io/hashicorp/aws",
    ),
]

CONFIGURATION = """\
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "revision" { default = "1" }
variable "instance_type" { default = "ml.g4dn.xlarge" }

# Nothing of the emulator stands here: all of it is in the environment.
provider "aws" {
  default_tags { tags = { app = "churn" } }
}

data "aws_caller_identity" "me" {}

resource "aws_kms_key" "artifacts" {
  description             = "artifacts"
  deletion_window_in_days = 7
  enable_key_rotation     = true
}

resource "aws_kms_alias" "artifacts" {
  name          = "alias/artifacts"
  target_key_id = aws_kms_key.artifacts.key_id
}

resource "aws_s3_bucket" "artifacts" {
  bucket        = "artifacts-${data.aws_caller_identity.me.account_id}"
  force_destroy = true
}

resource "aws_s3_bucket_versioning" "artifacts" {
  bucket = aws_s3_bucket.artifacts.id
  versioning_configuration { status = "Enabled" }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "artifacts" {
  bucket = aws_s3_bucket.artifacts.id
  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.artifacts.arn
    }
    bucket_key_enabled = true
  }
}

resource "aws_s3_bucket_public_access_block" "artifacts" {
  bucket                  = aws_s3_bucket.artifacts.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

# Written before versioning is on, now and then: its version is called null, and destroying it
# needs a bucket that keeps its promises while versioning is suspended.
resource "aws_s3_object" "model" {
  bucket  = aws_s3_bucket.artifacts.id
  key     = "churn/1/model.json"
  content = jsonencode({ scale = 2 })
}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["sagemaker.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "reading" {
  statement {
    actions   = ["s3:GetObject", "s3:ListBucket"]
    resources = [aws_s3_bucket.artifacts.arn, "${aws_s3_bucket.artifacts.arn}/*"]
  }
}

resource "aws_iam_role" "execution" {
  name               = "execution"
  assume_role_policy = data.aws_iam_policy_document.trust.json
}

resource "aws_iam_role_policy" "reading" {
  name   = "reading"
  role   = aws_iam_role.execution.id
  policy = data.aws_iam_policy_document.reading.json
}

resource "aws_ecr_repository" "server" { name = "churn/server" }

resource "aws_sagemaker_model_package_group" "churn" {
  model_package_group_name        = "churn"
  model_package_group_description = "who leaves"
}

resource "aws_sagemaker_model" "churn" {
  name               = "churn-1"
  execution_role_arn = aws_iam_role.execution.arn
  primary_container {
    image = "${aws_ecr_repository.server.repository_url}:1"
    model_data_source {
      s3_data_source {
        s3_uri           = "s3://${aws_s3_bucket.artifacts.bucket}/churn/1/"
        s3_data_type     = "S3Prefix"
        compression_type = "None"
      }
    }
    environment = { LEVEL = "1" }
  }
  depends_on = [aws_s3_object.model, aws_iam_role_policy.reading]
}

resource "aws_sagemaker_endpoint_configuration" "churn" {
  name = "churn-${var.revision}"
  production_variants {
    variant_name                                      = "main"
    model_name                                        = aws_sagemaker_model.churn.name
    initial_instance_count                            = 1
    instance_type                                     = var.instance_type
    initial_variant_weight                            = 1
    model_data_download_timeout_in_seconds            = 600
    container_startup_health_check_timeout_in_seconds = 600
  }
  lifecycle { create_before_destroy = true }
}

resource "aws_cloudwatch_metric_alarm" "errors" {
  alarm_name          = "churn-5xx"
  namespace           = "AWS/SageMaker"
  metric_name         = "Invocation5XXErrors"
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 1
  threshold           = 1
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  dimensions          = { EndpointName = "churn", VariantName = "main" }
}

resource "aws_sagemaker_endpoint" "churn" {
  name                 = "churn"
  endpoint_config_name = aws_sagemaker_endpoint_configuration.churn.name
  deployment_config {
    blue_green_update_policy {
      traffic_routing_configuration {
        type                     = "CANARY"
        wait_interval_in_seconds = 60
        canary_size {
          type  = "CAPACITY_PERCENT"
          value = 50
        }
      }
    }
    auto_rollback_configuration {
      alarms { alarm_name = aws_cloudwatch_metric_alarm.errors.alarm_name }
    }
  }
}

resource "aws_appautoscaling_target" "churn" {
  service_namespace  = "sagemaker"
  resource_id        = "endpoint/${aws_sagemaker_endpoint.churn.name}/variant/main"
  scalable_dimension = "sagemaker:variant:DesiredInstanceCount"
  min_capacity       = 1
  max_capacity       = 2
}

resource "aws_appautoscaling_policy" "churn" {
  name               = "invocations"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.churn.service_namespace
  resource_id        = aws_appautoscaling_target.churn.resource_id
  scalable_dimension = aws_appautoscaling_target.churn.scalable_dimension
  target_tracking_scaling_policy_configuration {
    target_value       = 100
    scale_in_cooldown  = 300
    scale_out_cooldown = 60
    predefined_metric_specification {
      predefined_metric_type = "SageMakerVariantInvocationsPerInstance"
    }
  }
}

output "endpoint" { value = aws_sagemaker_endpoint.churn.arn }
"""

Terraform = Callable[..., str]


@pytest.fixture
def server() -> Iterator[AwsServer]:
    """An emulated AWS whose images are stand-ins."""
    images = {"*/churn/server:*": [sys.executable, "-S", "-E", str(CONTAINER)]}
    with AwsServer(images=images, scale=0.01, describes=0) as server:
        yield server


@pytest.fixture
def terraform(server: AwsServer, tmp_path: Path) -> Terraform:
    """Run terraform in a folder of its own, and return what it printed."""
    (tmp_path / "main.tf").write_text(CONFIGURATION)
    given = {
        name: value
        for name, value in server.process_environment().items()
        if not name.startswith("TF_")
    }
    env = {**given, "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}

    def run(*words: str, code: int = 0) -> str:
        assert TERRAFORM is not None
        done = subprocess.run(
            [TERRAFORM, *words],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    run("init", f"-plugin-dir={PLUGINS}", "-no-color")
    return run


def test_whole_life(terraform: Terraform, server: AwsServer, until: Callable[..., None]) -> None:
    """Apply, a clean plan, an update that shifts traffic, a clean plan, destroy."""
    said = terraform("apply", "-auto-approve", "-no-color")
    assert "17 added, 0 changed, 0 destroyed" in said
    sagemaker, runtime = boto3.client("sagemaker"), boto3.client("sagemaker-runtime")
    pids = server.fleet.pids
    assert len(pids) == 1
    invoke: dict[str, Any] = {"EndpointName": "churn", "ContentType": "application/json"}
    assert runtime.invoke_endpoint(**invoke, Body=b"{}")["Body"].read()

    said = terraform("plan", "-detailed-exitcode", "-no-color")
    assert "No changes" in said

    changed = ("-var", "revision=2", "-var", "instance_type=ml.g4dn.2xlarge")
    # A registered scalable target forbids another instance type, so it goes first.
    scaling = ("-target", "aws_appautoscaling_policy.churn")
    scaling += ("-target", "aws_appautoscaling_target.churn")
    terraform("destroy", "-auto-approve", "-no-color", *scaling)
    terraform("apply", "-auto-approve", "-no-color", *changed)
    endpoint = sagemaker.describe_endpoint(EndpointName="churn")
    assert (endpoint["EndpointStatus"], endpoint["EndpointConfigName"]) == ("InService", "churn-2")
    assert server.fleet.pids != pids
    assert runtime.invoke_endpoint(**invoke, Body=b"{}")["Body"].read()

    said = terraform("plan", "-detailed-exitcode", "-no-color", *changed)
    assert "No changes" in said

    said = terraform("destroy", "-auto-approve", "-no-color", *changed)
    assert "17 destroyed" in said
    # The provider waits for no end of an endpoint, only for its absence from one answer.
    until(lambda: sagemaker.list_endpoints()["Endpoints"] == [])
    until(lambda: server.fleet.pids == [])
    assert boto3.client("s3").list_buckets()["Buckets"] == []


def test_a_plan_reaches_nothing_else(terraform: Terraform) -> None:
    """A plan needs no account: everything that the provider asks is answered here."""
    said = terraform("plan", "-no-color")

    assert "17 to add" in said
