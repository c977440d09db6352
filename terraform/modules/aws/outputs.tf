output "target" {
  description = "The keys of the target in cloudreg.toml: what goes into `targets` of the output `cloudreg`."
  value = {
    provider          = "sagemaker"
    region            = local.region
    account           = local.account
    bucket            = aws_s3_bucket.this.bucket
    prefix            = var.prefix == "" ? null : var.prefix
    kms_key           = local.key
    role              = aws_iam_role.execution.arn
    image             = var.image
    network_isolation = var.network_isolation ? true : null
    stage_names       = var.stage_names
    vpc               = var.network == null ? null : { subnets = var.network.subnet_ids, security_groups = local.groups }
    deployment        = local.rollback == null ? null : { alarms = [for alarm in aws_cloudwatch_metric_alarm.this : alarm.alarm_name] }
  }
  # Nothing is deployed into a bucket that is not closed yet, or by a role that may not yet.
  depends_on = [
    aws_s3_bucket_ownership_controls.this,
    aws_s3_bucket_policy.this,
    aws_s3_bucket_public_access_block.this,
    aws_s3_bucket_server_side_encryption_configuration.this,
    aws_s3_bucket_versioning.this,
    aws_iam_role_policy.execution,
    aws_iam_role_policy.deployer,
  ]
}

output "facts" {
  description = "For people and other tools: what goes into `facts` of the output `cloudreg`."
  value = {
    deployers      = { for stage, role in aws_iam_role.deployer : stage => role.arn }
    package_groups = { for model, group in aws_sagemaker_model_package_group.this : model => group.arn }
    repositories   = { for name, one in aws_ecr_repository.this : name => one.repository_url }
    alarms         = sort([for alarm in aws_cloudwatch_metric_alarm.this : alarm.alarm_name])
    topics         = local.topics
  }
}

output "deployer_role_arns" {
  description = "By stage: the role that deploys up to it."
  value       = { for stage, role in aws_iam_role.deployer : stage => role.arn }
}

output "deployer_policies" {
  description = "By stage: the policy of that role, as JSON."
  value       = local.deployer_policies
}

output "bucket_policy" {
  description = "The policy of the bucket, as JSON: TLS alone, and a ledger that is written once."
  value       = data.aws_iam_policy_document.bucket.json
}

output "transfer_role_arn" {
  description = "The role by which Storage Transfer Service reads, for the input `transfer` of the module gcp; null without `transfer_subject`."
  value       = one(aws_iam_role.transfer[*].arn)
}
