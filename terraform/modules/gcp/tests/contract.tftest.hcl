# terraform test: what the module promises to whoever reads its plan.

provider "google" {
  project = "our-project"
}

variables {
  project  = "our-project"
  location = "europe-west4"
  bucket   = "their-models"
  prefix   = "team"
  cloudreg = {
    models = ["churn"]
    stages = ["dev", "prod"]
    endpoints = {
      churn-prod = { model = "churn", stage = "prod", target = "gcp", max_error_rate = 0.01 }
      elsewhere  = { model = "churn", stage = "prod", target = "aws", max_error_rate = 0.01 }
    }
  }
}

run "contract" {
  command = plan

  assert {
    condition     = output.target.provider == "vertex" && output.target.bucket == "their-models" && output.target.prefix == "team"
    error_message = "The target has the keys of [targets.NAME]."
  }
  assert {
    condition     = toset(keys(google_service_account.deployer)) == toset(["dev", "prod"])
    error_message = "There is a deployer for each stage."
  }
  assert {
    condition     = keys(google_monitoring_alert_policy.this) == ["cloudreg-alert/churn-prod/errors"]
    error_message = "Alerts are for the endpoints of this target, and for the limits that they have."
  }
}

run "closed" {
  command = plan

  assert {
    condition     = google_storage_bucket.this.public_access_prevention == "enforced" && google_storage_bucket.this.uniform_bucket_level_access && google_storage_bucket.this.versioning[0].enabled
    error_message = "The bucket is private and versioned."
  }
  assert {
    condition     = !contains(google_project_iam_custom_role.this["cloudregLedger"].permissions, "storage.objects.delete")
    error_message = "An entry of the ledger is written once."
  }
}

run "another_stage" {
  command = plan

  variables {
    deployer_members = { staging = ["group:oncall@example.com"] }
  }
  expect_failures = [var.deployer_members]
}
