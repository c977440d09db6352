locals {
  google = var.google == null ? {} : var.environments
  # One subject is one environment of one repository, by its number.
  subject = { for stage, environment in local.google : stage => "${var.repository_id}:${environment}" }
}

resource "google_iam_workload_identity_pool" "this" {
  count = var.google == null ? 0 : 1

  project                   = var.google.project
  workload_identity_pool_id = var.google.pool
  display_name              = "GitHub Actions"
}

resource "google_iam_workload_identity_pool_provider" "this" {
  # checkov:skip=CKV_GCP_125:it looks for the repository's name, and the condition below is on its number
  count = var.google == null ? 0 : 1

  project                            = var.google.project
  workload_identity_pool_id          = google_iam_workload_identity_pool.this[0].workload_identity_pool_id
  workload_identity_pool_provider_id = "actions"
  display_name                       = "GitHub Actions"

  attribute_mapping = {
    "google.subject"          = "assertion.repository_id + \":\" + assertion.environment"
    "attribute.repository_id" = "assertion.repository_id"
    "attribute.environment"   = "assertion.environment"
    "attribute.repository"    = "assertion.repository"
    "attribute.workflow_ref"  = "assertion.workflow_ref"
  }
  # Numbers, since a name can be taken again by somebody else; and jobs of an environment alone.
  attribute_condition = join(" && ", [
    "assertion.repository_id == '${var.repository_id}'",
    "assertion.repository_owner_id == '${var.repository_owner_id}'",
    "assertion.environment in [${join(", ", [for name in sort(values(var.environments)) : "'${name}'"])}]",
  ])

  oidc {
    issuer_uri = "https://${local.issuer}"
  }
}
