data "google_project" "this" {
  project_id = var.project
}

locals {
  number = data.google_project.this.number
  below  = var.prefix == "" ? "" : "${var.prefix}/"

  written = jsondecode(file("${path.module}/deployer.json"))
  known = merge(local.written.roles, {
    cloudregDeployer = sort(concat(local.written.roles.cloudregDeployer, var.transfer == null ? [] : local.written.transfer))
  })

  # Only what cloudreg deploys to this target; the models and stages are of all of them.
  endpoints = { for name, one in var.cloudreg.endpoints : name => one if one.target == var.target }

  services = concat(
    [
      "aiplatform", "artifactregistry", "cloudkms", "cloudresourcemanager", "iam", "iamcredentials",
      "logging", "monitoring", "storage", "sts",
    ],
    var.transfer == null ? [] : ["storagetransfer"],
  )
}

resource "google_project_service" "this" {
  for_each = var.enable_services ? toset(local.services) : toset([])

  project            = var.project
  service            = "${each.key}.googleapis.com"
  disable_on_destroy = false # others may use it
}

resource "google_artifact_registry_repository" "this" {
  for_each = var.repositories

  project       = var.project
  location      = var.location
  repository_id = each.key
  description   = "Model servers that cloudreg deploys"
  format        = "DOCKER"
  kms_key_name  = local.key
  labels        = var.labels

  docker_config {
    immutable_tags = true
  }

  depends_on = [google_kms_crypto_key_iam_member.service]
}

resource "google_artifact_registry_repository_iam_member" "serving" {
  for_each = google_artifact_registry_repository.this

  project    = var.project
  location   = var.location
  repository = each.value.name
  role       = "roles/artifactregistry.reader"
  member     = "serviceAccount:${google_service_account.serving.email}"
}

# Vertex AI wants the name itself as id. Traffic and labels are cloudreg's from the first deployment
# on; the one label that is set here tells it that it may use the endpoint.
resource "google_vertex_ai_endpoint" "this" {
  # checkov:skip=CKV2_GCP_33:private_service_connect makes it private, and IAM guards it where it is not
  for_each = var.endpoint_shells

  project      = var.project
  location     = var.location
  name         = each.key
  display_name = each.key
  labels       = { cloudreg = var.cloudreg.endpoints[each.key].model }

  dedicated_endpoint_enabled = length(var.private_service_connect) == 0

  encryption_spec {
    kms_key_name = local.key
  }
  dynamic "private_service_connect_config" {
    for_each = length(var.private_service_connect) == 0 ? [] : [var.private_service_connect]
    content {
      enable_private_service_connect = true
      project_allowlist              = private_service_connect_config.value
    }
  }
  lifecycle {
    ignore_changes = [description, display_name, labels, traffic_split]
  }
  depends_on = [google_kms_crypto_key_iam_member.service, google_project_service.this]
}
