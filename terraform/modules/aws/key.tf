locals {
  key = var.kms_key_arn == null ? aws_kms_key.this[0].arn : var.kms_key_arn
}

data "aws_iam_policy_document" "key" {
  count = var.kms_key_arn == null ? 1 : 0

  # IAM decides who else may use it; without this statement nobody could manage the key.
  statement {
    sid       = "Account"
    actions   = ["kms:*"]
    resources = ["*"]
    principals {
      type        = "AWS"
      identifiers = ["arn:${local.partition}:iam::${local.account}:root"]
    }
  }

  # An alarm that cannot encrypt what it says tells nobody, and does not say so either:
  # https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html
  dynamic "statement" {
    for_each = var.alerts == null ? [] : [true]
    content {
      sid       = "Alarms"
      actions   = ["kms:Decrypt", "kms:GenerateDataKey*"]
      resources = ["*"]
      principals {
        type        = "Service"
        identifiers = ["cloudwatch.amazonaws.com"]
      }
      condition {
        test     = "StringEquals"
        variable = "aws:SourceAccount"
        values   = [local.account]
      }
    }
  }
}

resource "aws_kms_key" "this" {
  count = var.kms_key_arn == null ? 1 : 0

  description             = "${var.name}: artifacts, ledger, images and volumes"
  deletion_window_in_days = var.key_deletion_days
  enable_key_rotation     = true
  policy                  = data.aws_iam_policy_document.key[0].json
  tags                    = var.tags
}

resource "aws_kms_alias" "this" {
  count = var.kms_key_arn == null ? 1 : 0

  name          = "alias/${var.name}"
  target_key_id = aws_kms_key.this[0].key_id
}
