# One role a stage: what cloudreg calls, on what it makes, and nothing of the stages above.
#
# deployer.json is written from cloudreg's own list of calls, and a test compares what stands here
# with what `cloudreg doctor --iam sagemaker --stage STAGE` prints.

locals {
  known = jsondecode(file("${path.module}/deployer.json"))

  sagemaker    = "arn:${local.partition}:sagemaker:${local.region}:${local.account}"
  names        = length(var.cloudreg.models) == 0 ? ["*"] : sort(var.cloudreg.models)
  models       = sort(distinct(var.cloudreg.models))
  bucket_arn   = aws_s3_bucket.this.arn
  stage_names  = merge(local.known.stage_names, coalesce(var.stage_names, {}))
  stage_number = { for index, stage in var.cloudreg.stages : stage => index }

  registry_arns = concat(
    [for name in local.names : "${local.sagemaker}:model-package-group/${name}"],
    [for name in local.names : "${local.sagemaker}:model-package/${name}/*"],
  )
  model_arns = length(local.models) == 0 ? ["model/*", "transform-job/*"] : concat(
    [for name in local.models : "model/${name}-*"],
    [for name in local.models : "transform-job/${substr(name, 0, min(24, length(name)))}*"],
  )

  # By stage: those that may be shown, those that may not, and the endpoints within reach.
  reach = {
    for stage, index in local.stage_number : stage => {
      stages    = slice(var.cloudreg.stages, 0, index + 1)
      others    = slice(var.cloudreg.stages, index + 1, length(var.cloudreg.stages))
      endpoints = sort([for name, one in local.endpoints : name if local.stage_number[one.stage] <= index])
    }
  }
  endpoint_arns = {
    for stage, one in local.reach : stage => [
      for name in sort(distinct(concat(
        local.model_arns,
        [for name in one.endpoints : "endpoint/${name}"],
        [for name in one.endpoints : "inference-component/${name}"],
        [
          for name in one.endpoints :
          "endpoint-config/${replace(substr(name, 0, min(local.known.stem, length(name))), "/-+$/", "")}-*"
        ],
        # Without a configured endpoint, only whoever may reach every stage may reach any.
        length(one.endpoints) > 0 || length(one.others) > 0 ? [] : ["endpoint/*", "inference-component/*", "endpoint-config/*"],
      ))) : "${local.sagemaker}:${name}"
    ]
  }

  # A condition is of another shape in each statement, which a list of HCL does not allow: each
  # statement is JSON already.
  deployer_statements = {
    for stage, one in local.reach : stage => concat(
      [
        jsonencode({
          Sid      = "Registry", Effect = "Allow", Action = local.known.actions.Registry
          Resource = local.registry_arns
        }),
        length(one.others) == 0 ? jsonencode({
          Sid      = "Stages", Effect = "Allow", Action = local.known.actions.Stages
          Resource = local.registry_arns
          }) : jsonencode({
          Sid      = "Stages", Effect = "Allow", Action = local.known.actions.Stages
          Resource = local.registry_arns
          Condition = { StringEquals = { "sagemaker:ModelLifeCycle:stage" = concat(
            [local.known.unstaged], [for name in one.stages : lookup(local.stage_names, name, name)], [local.known.retired]
          ) } }
        }),
        jsonencode({
          Sid      = "Endpoints", Effect = "Allow", Action = local.known.actions.Endpoints
          Resource = local.endpoint_arns[stage]
        }),
        jsonencode({
          Sid       = "Replicas", Effect = "Allow", Action = local.known.actions.Replicas
          Resource  = ["arn:${local.partition}:application-autoscaling:${local.region}:${local.account}:scalable-target/*"]
          Condition = { StringEquals = { "application-autoscaling:service-namespace" = "sagemaker" } }
        }),
        jsonencode({
          Sid      = "Alarms", Effect = "Allow", Action = local.known.actions.Alarms
          Resource = [for prefix in local.known.alarms : "arn:${local.partition}:cloudwatch:${local.region}:${local.account}:alarm:${prefix}*"]
        }),
        jsonencode({
          Sid      = "Logs", Effect = "Allow", Action = local.known.actions.Logs
          Resource = ["arn:${local.partition}:logs:${local.region}:${local.account}:log-group:/aws/sagemaker/*"]
        }),
        jsonencode({
          Sid       = "Role", Effect = "Allow", Action = local.known.actions.Role
          Resource  = [aws_iam_role.execution.arn]
          Condition = { StringEquals = { "iam:PassedToService" = "sagemaker.amazonaws.com" } }
        }),
        jsonencode({
          Sid       = "ScalingRole", Effect = "Allow", Action = local.known.actions.ScalingRole
          Resource  = ["arn:${local.partition}:iam::${local.account}:${local.known.scaling_role}"]
          Condition = { StringEquals = { "iam:AWSServiceName" = "sagemaker.application-autoscaling.amazonaws.com" } }
        }),
        jsonencode({
          Sid      = "Bucket", Effect = "Allow", Action = local.known.actions.Bucket
          Resource = [local.bucket_arn]
        }),
        jsonencode({
          Sid      = "Objects", Effect = "Allow", Action = local.known.actions.Objects
          Resource = ["${local.bucket_arn}/${local.below}*"]
        }),
      ],
      length(one.others) == 0 ? [] : [jsonencode({
        Sid = "OtherStages", Effect = "Deny", Action = local.known.actions.OtherStages
        Resource = [
          for name in one.others :
          "${local.bucket_arn}/${local.below}sagemaker/${local.region}/registry/*/stages/${name}/*"
        ]
      })],
      [
        jsonencode({
          Sid = "Key", Effect = "Allow", Action = local.known.actions.Key, Resource = [local.key]
        }),
        jsonencode({
          Sid       = "Grants", Effect = "Allow", Action = local.known.actions.Grants, Resource = [local.key]
          Condition = { Bool = { "kms:GrantIsForAWSResource" = "true" } }
        }),
        jsonencode({
          Sid = "Everywhere", Effect = "Allow", Action = local.known.actions.Everywhere, Resource = ["*"]
        }),
      ],
    )
  }
  deployer_policies = {
    for stage, statements in local.deployer_statements :
    stage => "{\"Version\":\"2012-10-17\",\"Statement\":[${join(",", statements)}]}"
  }
}

data "aws_iam_policy_document" "deployer_trust" {
  for_each = local.stage_number

  source_policy_documents = compact([lookup(var.deployer_trust, each.key, "")])

  dynamic "statement" {
    for_each = (
      contains(keys(var.deployer_principals), each.key) ? [var.deployer_principals[each.key]] :
      # The account's own policies decide who may, as for a role that is made in the console.
      contains(keys(var.deployer_trust), each.key) ? [] : [["arn:${local.partition}:iam::${local.account}:root"]]
    )
    content {
      sid     = "Principals"
      actions = ["sts:AssumeRole"]
      principals {
        type        = "AWS"
        identifiers = statement.value
      }
    }
  }
}

resource "aws_iam_role" "deployer" {
  for_each = local.stage_number

  name                 = "${var.name}-deployer-${each.key}"
  description          = "Deploys with cloudreg, up to ${each.key}"
  assume_role_policy   = data.aws_iam_policy_document.deployer_trust[each.key].json
  max_session_duration = 14400 # an endpoint on a GPU may take most of an hour, a rollout more
  permissions_boundary = var.permissions_boundary
  tags                 = var.tags
}

resource "aws_iam_role_policy" "deployer" {
  for_each = local.stage_number

  name   = "cloudreg"
  role   = aws_iam_role.deployer[each.key].id
  policy = local.deployer_policies[each.key]

  lifecycle {
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
    precondition {
      condition     = length(local.deployer_policies[each.key]) <= 10240
      error_message = "A role's policies have 10240 characters at most, and so many models and endpoints need more: split them over two targets."
    }
  }
}
