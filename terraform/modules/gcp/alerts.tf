# For people, with the limits of a rollout; rollouts read the same metrics themselves.

locals {
  of_endpoint = {
    for name in keys(local.endpoints) : name =>
    "resource.type = \"aiplatform.googleapis.com/Endpoint\" AND resource.labels.location = \"${var.location}\" AND resource.labels.endpoint_id = \"${name}\""
  }
  online = "metric.type = \"aiplatform.googleapis.com/prediction/online"

  limits = var.alerts == null ? {} : merge(
    {
      for name, one in local.endpoints : "cloudreg-alert/${name}/errors" => {
        endpoint    = name, above = one.max_error_rate, aligner = "ALIGN_RATE", reducer = "REDUCE_SUM"
        filter      = "${local.of_endpoint[name]} AND ${local.online}/error_count\""
        denominator = "${local.of_endpoint[name]} AND ${local.online}/prediction_count\""
      } if one.max_error_rate != null
    },
    {
      for name, one in local.endpoints : "cloudreg-alert/${name}/p95" => {
        endpoint    = name, above = one.max_p95_ms, aligner = "ALIGN_PERCENTILE_95", reducer = "REDUCE_MAX"
        filter      = "${local.of_endpoint[name]} AND ${local.online}/prediction_latencies\" AND metric.labels.latency_type = \"total\""
        denominator = null
      } if one.max_p95_ms != null
    },
  )
  channels = var.alerts == null ? [] : concat(
    [for channel in google_monitoring_notification_channel.this : channel.name],
    sort(var.alerts.channels),
  )
}

resource "google_monitoring_notification_channel" "this" {
  for_each = var.alerts == null ? [] : var.alerts.emails

  project      = var.project
  display_name = "${var.name}: ${each.key}"
  type         = "email"
  labels       = { email_address = each.key }
}

resource "google_monitoring_alert_policy" "this" {
  for_each = local.limits

  project               = var.project
  display_name          = each.key
  combiner              = "OR"
  notification_channels = local.channels
  user_labels           = var.labels

  conditions {
    display_name = "above ${each.value.above}"
    condition_threshold {
      filter                  = each.value.filter
      denominator_filter      = each.value.denominator
      comparison              = "COMPARISON_GT"
      threshold_value         = each.value.above
      duration                = "120s"
      evaluation_missing_data = "EVALUATION_MISSING_DATA_INACTIVE" # an endpoint that nobody asks is well

      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = each.value.aligner
        cross_series_reducer = each.value.reducer
      }
      dynamic "denominator_aggregations" {
        for_each = each.value.denominator == null ? [] : [each.value]
        content {
          alignment_period     = "60s"
          per_series_aligner   = denominator_aggregations.value.aligner
          cross_series_reducer = denominator_aggregations.value.reducer
        }
      }
    }
  }
  documentation {
    content   = "${each.value.endpoint} exceeds a limit that cloudreg.toml sets for its rollouts. `cloudreg status` and `cloudreg rollout status ${each.value.endpoint}` tell what runs there."
    mime_type = "text/markdown"
  }

  depends_on = [google_project_service.this]
}

resource "google_billing_budget" "this" {
  count = var.budget == null ? 0 : 1

  billing_account = var.budget.billing_account
  display_name    = "${var.name}: Vertex AI"

  budget_filter {
    projects = ["projects/${local.number}"]
    services = ["services/C7E2-9256-1C43"] # Vertex AI: https://cloud.google.com/skus
  }
  amount {
    specified_amount {
      currency_code = "USD"
      units         = tostring(var.budget.usd)
    }
  }
  dynamic "threshold_rules" {
    for_each = [0.8, 1.0]
    content {
      threshold_percent = threshold_rules.value
    }
  }
}
