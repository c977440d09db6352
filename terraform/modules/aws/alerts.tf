# Alarms for people, with the limits and the names of a rollout: cloudreg makes the alarms of a
# rollout itself, as cloudreg-guard/ENDPOINT/errors and cloudreg-guard/ENDPOINT/p95, for as long as
# it lasts. These stay.

locals {
  # The one variant of an endpoint outside a rollout.
  variant = "primary"

  limits = var.alerts == null ? {} : merge(
    {
      for name, one in local.endpoints : "cloudreg-alert/${name}/errors" => {
        endpoint = name, metric = "Invocation5XXErrors", statistic = "Average", percentile = null
        # 1 is published for an error and 0 for every other answer, so that the mean is the rate.
        above = one.max_error_rate, text = "share of requests that end in a 5xx"
      } if one.max_error_rate != null
    },
    {
      for name, one in local.endpoints : "cloudreg-alert/${name}/p95" => {
        endpoint = name, metric = "ModelLatency", statistic = null, percentile = "p95"
        above    = one.max_p95_ms * 1000, text = "95th percentile of the latency in microseconds"
      } if one.max_p95_ms != null
    },
  )
  topics = var.alerts == null ? [] : concat(aws_sns_topic.this[*].arn, sort(var.alerts.topics))
  # SageMaker takes ten: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_AutoRollbackConfig.html
  rollback = try(var.alerts.rollback, false) && length(local.limits) > 0 ? sort(keys(local.limits)) : null
}

resource "aws_sns_topic" "this" {
  count = var.alerts == null ? 0 : 1

  name              = "${var.name}-alerts"
  kms_master_key_id = local.key
  tags              = var.tags
}

resource "aws_sns_topic_subscription" "this" {
  for_each = var.alerts == null ? [] : var.alerts.emails

  topic_arn = aws_sns_topic.this[0].arn
  protocol  = "email"
  endpoint  = each.key
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.limits

  alarm_name          = each.key
  alarm_description   = "${each.value.endpoint}: ${each.value.text} is above ${each.value.above}"
  namespace           = "AWS/SageMaker"
  metric_name         = each.value.metric
  statistic           = each.value.statistic
  extended_statistic  = each.value.percentile
  period              = 60
  evaluation_periods  = 3
  datapoints_to_alarm = 2
  threshold           = each.value.above
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching" # an endpoint that nobody asks is well
  dimensions          = { EndpointName = each.value.endpoint, VariantName = local.variant }
  alarm_actions       = local.topics
  ok_actions          = local.topics
  tags                = var.tags

  lifecycle {
    precondition {
      condition     = !var.alerts.rollback || length(local.limits) <= 10
      error_message = "SageMaker looks at ten alarms while it updates an endpoint, and there are more: alerts.rollback = false."
    }
  }
}

resource "aws_budgets_budget" "this" {
  count = var.budget == null ? 0 : 1

  name         = "${var.name}-sagemaker"
  budget_type  = "COST"
  limit_amount = format("%.1f", var.budget.usd) # as the service writes it back
  limit_unit   = "USD"
  time_unit    = "MONTHLY"

  cost_filter {
    name   = "Service"
    values = ["Amazon SageMaker"]
  }
  dynamic "notification" {
    for_each = [80, 100]
    content {
      comparison_operator        = "GREATER_THAN"
      notification_type          = "ACTUAL"
      threshold                  = notification.value
      threshold_type             = "PERCENTAGE"
      subscriber_email_addresses = var.budget.emails
    }
  }
}
