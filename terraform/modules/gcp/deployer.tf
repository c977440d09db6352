# One service account a stage, which all have the same two dozen permissions: Google's roles name no
# stage. deployer.json is written from cloudreg's own list of calls, and a test compares what stands
# here with what `cloudreg doctor --iam vertex` prints.

locals {
  titles = {
    cloudregDeployer  = "cloudreg deployer"
    cloudregArtifacts = "cloudreg artifacts"
    cloudregLedger    = "cloudreg ledger"
  }
}

resource "google_project_iam_custom_role" "this" {
  for_each = local.known

  project     = var.project
  role_id     = "${each.key}_${replace(var.name, "-", "_")}"
  title       = local.titles[each.key]
  description = "What cloudreg calls, and nothing else"
  stage       = "GA"
  permissions = each.value
}

resource "google_service_account" "deployer" {
  for_each = toset(var.cloudreg.stages)

  project      = var.project
  account_id   = "${var.name}-${substr(each.key, 0, min(11, length(each.key)))}"
  display_name = "cloudreg deployer, up to ${each.key}"

  lifecycle {
    precondition {
      condition     = length(distinct([for stage in var.cloudreg.stages : substr(stage, 0, min(11, length(stage)))])) == length(var.cloudreg.stages)
      error_message = "Accounts have 30 characters, so that stages must differ in their first eleven."
    }
    precondition {
      condition     = !contains([for stage in var.cloudreg.stages : substr(stage, 0, min(11, length(stage)))], "serving")
      error_message = "The account of a stage that is called serving would be that of the model servers."
    }
  }
}

resource "google_project_iam_member" "deployer" {
  for_each = google_service_account.deployer

  project = var.project
  role    = google_project_iam_custom_role.this["cloudregDeployer"].name
  member  = "serviceAccount:${each.value.email}"
}

# Whoever deploys hands this one account to the model servers, and no other.
resource "google_service_account_iam_member" "acts" {
  for_each = google_service_account.deployer

  service_account_id = google_service_account.serving.name
  role               = "roles/iam.serviceAccountUser"
  member             = "serviceAccount:${each.value.email}"
}

resource "google_service_account_iam_member" "trust" {
  for_each = merge([
    # By place and not by name: a pool that is made at the same time has no name yet.
    for stage, members in var.deployer_members : { for index, member in members : "${stage}/${index}" => { stage = stage, member = member } }
  ]...)

  service_account_id = google_service_account.deployer[each.value.stage].name
  # Workloads of elsewhere have a role of their own; people and other accounts make short-lived tokens.
  role   = can(regex("^principal", each.value.member)) ? "roles/iam.workloadIdentityUser" : "roles/iam.serviceAccountTokenCreator"
  member = each.value.member
}

resource "google_service_account" "serving" {
  project      = var.project
  account_id   = "${var.name}-serving"
  display_name = "Model servers that cloudreg deploys"
}

resource "google_project_iam_member" "serving" {
  for_each = toset(["roles/logging.logWriter", "roles/monitoring.metricWriter"])

  project = var.project
  role    = each.key
  member  = "serviceAccount:${google_service_account.serving.email}"
}
