output "aws_trust" {
  description = "By stage: the trust policy as JSON, for `deployer_trust` of the module aws."
  value       = { for stage, document in data.aws_iam_policy_document.trust : stage => document.json }
}

output "gcp_members" {
  description = "By stage: who its deployer is on Google, for `deployer_members` of the module gcp."
  value = {
    for stage, subject in local.subject :
    stage => ["principal://iam.googleapis.com/${google_iam_workload_identity_pool.this[0].name}/subject/${subject}"]
  }
}

output "workload_identity_provider" {
  description = "For the action google-github-actions/auth; null without Google."
  value       = one(google_iam_workload_identity_pool_provider.this[*].name)
}
