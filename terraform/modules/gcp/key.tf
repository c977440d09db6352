locals {
  key = var.kms_key == null ? google_kms_crypto_key.this[0].id : var.kms_key

  # What encrypts in its own name: https://cloud.google.com/kms/docs/compatible-services
  agents = merge(
    {
      storage    = "serviceAccount:${data.google_storage_project_service_account.this.email_address}"
      aiplatform = "serviceAccount:service-${local.number}@gcp-sa-aiplatform.iam.gserviceaccount.com"
    },
    length(var.repositories) == 0 ? {} : {
      artifactregistry = "serviceAccount:service-${local.number}@gcp-sa-artifactregistry.iam.gserviceaccount.com"
    },
  )
}

data "google_storage_project_service_account" "this" {
  project = var.project
}

# A ring can never be removed: the next one of this name is found there again, by `import`.
resource "google_kms_key_ring" "this" {
  count = var.kms_key == null ? 1 : 0

  project  = var.project
  location = var.location
  name     = var.name

  depends_on = [google_project_service.this]
}

resource "google_kms_crypto_key" "this" {
  count = var.kms_key == null ? 1 : 0

  key_ring        = google_kms_key_ring.this[0].id
  name            = "models"
  rotation_period = "${var.key_rotation_days * 86400}s"
  labels          = var.labels
}

resource "google_kms_crypto_key_iam_member" "service" {
  for_each = local.agents

  crypto_key_id = local.key
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = each.value
}
