locals {
  issuer = "token.actions.githubusercontent.com"
  aws    = var.aws == null ? {} : var.environments
  # The account knows an issuer once.
  provider_arn = var.aws == null ? null : var.aws.provider_arn == null ? aws_iam_openid_connect_provider.this[0].arn : var.aws.provider_arn
}

resource "aws_iam_openid_connect_provider" "this" {
  count = var.aws == null ? 0 : var.aws.provider_arn == null ? 1 : 0

  url            = "https://${local.issuer}"
  client_id_list = ["sts.amazonaws.com"]
  tags           = var.tags
}

# The subject names repository and environment; the repository's number is a claim of its own:
# https://docs.github.com/en/actions/reference/security/oidc
data "aws_iam_policy_document" "trust" {
  for_each = local.aws

  statement {
    sid     = "GitHub"
    actions = ["sts:AssumeRoleWithWebIdentity"]
    principals {
      type        = "Federated"
      identifiers = [local.provider_arn]
    }
    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:sub"
      values   = ["repo:${var.repository}:environment:${each.value}"]
    }
    condition {
      # Where AWS hands this claim on, it must be ours; a key that is not there would refuse everybody.
      test     = "StringEqualsIfExists"
      variable = "${local.issuer}:repository_id"
      values   = [var.repository_id]
    }
  }
}
