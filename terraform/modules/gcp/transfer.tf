# Storage Transfer Service, for versions above `transfer_above`: it writes in the name of an account
# of Google's own, which is there from the first look at it on.

locals {
  # Its roles may not be narrowed to what one job copies; it gets blobs, and no ledger.
  # https://cloud.google.com/storage-transfer/docs/sink-cloud-storage
  sink = ["storage.buckets.get", "storage.objects.create", "storage.objects.get", "storage.objects.list"]
}

data "google_storage_transfer_project_service_account" "this" {
  count = var.transfer == null ? 0 : 1

  project    = var.project
  depends_on = [google_project_service.this]
}

resource "google_project_iam_custom_role" "transfer" {
  count = var.transfer == null ? 0 : 1

  project     = var.project
  role_id     = "cloudregTransfer_${replace(var.name, "-", "_")}"
  title       = "cloudreg transfers"
  description = "Adds files of versions to the bucket, and removes none"
  stage       = "GA"
  permissions = local.sink
}

resource "google_storage_bucket_iam_member" "transfer" {
  count = var.transfer == null ? 0 : 1

  bucket = google_storage_bucket.this.name
  role   = google_project_iam_custom_role.transfer[0].name
  member = "serviceAccount:${data.google_storage_transfer_project_service_account.this[0].email}"
  condition {
    title      = "cloudreg's files of versions"
    expression = "resource.name == \"${local.keys}\" || resource.name.startsWith(\"${local.object}blobs/\")"
  }
}
