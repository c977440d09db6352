# TLS alone is not a setting on Google: Cloud Storage's API answers nothing else.
resource "google_storage_bucket" "this" {
  project                     = var.project
  name                        = var.bucket
  location                    = var.location
  force_destroy               = var.force_destroy
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  labels                      = var.labels

  versioning {
    enabled = true
  }
  encryption {
    default_kms_key_name = local.key
  }
  soft_delete_policy {
    retention_duration_seconds = var.soft_delete_days * 86400
  }
  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 7
    }
  }
  dynamic "lifecycle_rule" {
    for_each = var.noncurrent_days == null ? [] : [var.noncurrent_days]
    content {
      action {
        type = "Delete"
      }
      condition {
        days_since_noncurrent_time = lifecycle_rule.value
        with_state                 = "ARCHIVED"
      }
    }
  }
  dynamic "logging" {
    for_each = var.access_logs == null ? [] : [var.access_logs]
    content {
      log_bucket        = logging.value.bucket
      log_object_prefix = logging.value.prefix
    }
  }

  depends_on = [google_kms_crypto_key_iam_member.service, google_project_service.this]
}

locals {
  keys   = "projects/_/buckets/${var.bucket}"
  object = "${local.keys}/objects/${local.below}"

  # Where somebody may create and not delete, nobody can replace either: an entry of the ledger is
  # written once. https://cloud.google.com/storage/docs/access-control/iam-permissions
  everywhere = "resource.name == \"${local.keys}\" || (resource.name.startsWith(\"${local.object}\") && !resource.name.startsWith(\"${local.object}ledger/\"))"
  ledger     = "resource.name.startsWith(\"${local.object}ledger/\")"
}

resource "google_storage_bucket_iam_member" "artifacts" {
  for_each = google_service_account.deployer

  bucket = google_storage_bucket.this.name
  role   = google_project_iam_custom_role.this["cloudregArtifacts"].name
  member = "serviceAccount:${each.value.email}"
  condition {
    title      = "cloudreg's own keys"
    expression = local.everywhere
  }
}

resource "google_storage_bucket_iam_member" "ledger" {
  for_each = google_service_account.deployer

  bucket = google_storage_bucket.this.name
  role   = google_project_iam_custom_role.this["cloudregLedger"].name
  member = "serviceAccount:${each.value.email}"
  condition {
    title      = "cloudreg's ledger"
    expression = local.ledger
  }
}

resource "google_storage_bucket_iam_member" "serving" {
  bucket = google_storage_bucket.this.name
  role   = "roles/storage.objectViewer"
  member = "serviceAccount:${google_service_account.serving.email}"
  condition {
    title      = "models"
    expression = "resource.name == \"${local.keys}\" || resource.name.startsWith(\"${local.object}\")"
  }
}
