output "target" {
  description = "The keys of the target in cloudreg.toml: what goes into `targets` of the output `cloudreg`."
  value = {
    provider                = "vertex"
    project                 = var.project
    project_number          = tonumber(local.number)
    location                = var.location
    bucket                  = google_storage_bucket.this.name
    prefix                  = var.prefix == "" ? null : var.prefix
    kms_key                 = local.key
    service_account         = google_service_account.serving.email
    image                   = var.image
    transfer_role           = try(var.transfer.role_arn, null)
    private_service_connect = length(var.private_service_connect) == 0 ? null : var.private_service_connect
  }
  # Nothing is deployed by somebody who may not yet.
  depends_on = [
    google_project_iam_member.deployer,
    google_service_account_iam_member.acts,
    google_storage_bucket_iam_member.artifacts,
    google_storage_bucket_iam_member.ledger,
    google_storage_bucket_iam_member.serving,
    google_storage_bucket_iam_member.transfer,
  ]
}

output "facts" {
  description = "For people and other tools: what goes into `facts` of the output `cloudreg`."
  value = {
    deployers    = { for stage, account in google_service_account.deployer : stage => account.email }
    repositories = { for name, one in google_artifact_registry_repository.this : name => "${var.location}-docker.pkg.dev/${var.project}/${one.repository_id}" }
    endpoints    = { for name, one in google_vertex_ai_endpoint.this : name => one.id }
    alerts       = sort([for policy in google_monitoring_alert_policy.this : policy.display_name])
    channels     = local.channels
  }
}

output "deployer_emails" {
  description = "By stage: the service account that deploys up to it."
  value       = { for stage, account in google_service_account.deployer : stage => account.email }
}

output "deployer_roles" {
  description = "The permissions of the custom roles, and where they hold: what a deployer may do."
  value = {
    permissions = local.known
    conditions  = { cloudregArtifacts = local.everywhere, cloudregLedger = local.ledger }
  }
}

output "transfer_subject" {
  description = "Who copies in Google's name, for the input `transfer_subject` of the module aws; null without `transfer`."
  value       = one(data.google_storage_transfer_project_service_account.this[*].subject_id)
}
