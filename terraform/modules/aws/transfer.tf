# A role by which Google's Storage Transfer Service reads files of versions, without any key:
# https://cloud.google.com/storage-transfer/docs/source-amazon-s3

data "aws_iam_policy_document" "transfer_trust" {
  count = var.transfer_subject == null ? 0 : 1

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]
    principals {
      type        = "Federated"
      identifiers = ["accounts.google.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "accounts.google.com:sub"
      values   = [var.transfer_subject]
    }
  }
}

resource "aws_iam_role" "transfer" {
  count = var.transfer_subject == null ? 0 : 1

  name                 = "${var.name}-transfer"
  description          = "Storage Transfer Service reads models for a target on Google Cloud"
  assume_role_policy   = data.aws_iam_policy_document.transfer_trust[0].json
  permissions_boundary = var.permissions_boundary
  tags                 = var.tags
}

data "aws_iam_policy_document" "transfer" {
  count = var.transfer_subject == null ? 0 : 1

  statement {
    sid       = "Files"
    actions   = ["s3:GetObject"]
    resources = ["${aws_s3_bucket.this.arn}/${local.below}blobs/*"]
  }
  statement {
    sid       = "Place"
    actions   = ["s3:GetBucketLocation"]
    resources = [aws_s3_bucket.this.arn]
  }
  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.this.arn]
    dynamic "condition" {
      for_each = var.prefix == "" ? [] : [local.below]
      content {
        test     = "StringLike"
        variable = "s3:prefix"
        values   = ["${condition.value}*"]
      }
    }
  }
  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt"]
    resources = [local.key]
  }
}

resource "aws_iam_role_policy" "transfer" {
  count = var.transfer_subject == null ? 0 : 1

  name   = "transfer"
  role   = aws_iam_role.transfer[0].id
  policy = data.aws_iam_policy_document.transfer[0].json
}
