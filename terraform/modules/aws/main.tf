data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

locals {
  account   = data.aws_caller_identity.this.account_id
  partition = data.aws_partition.this.partition
  # `id` in every version of the provider: `name` is deprecated in 6, and `region` is not in 5.
  region = data.aws_region.this.id
  below  = var.prefix == "" ? "" : "${var.prefix}/"

  # Only what cloudreg deploys to this target; the models and stages are of all of them.
  endpoints = { for name, one in var.cloudreg.endpoints : name => one if one.target == var.target }
}

# Versions of a model are cloudreg's; that there is a model at all is decided here. The tag tells
# cloudreg that it may use the group.
resource "aws_sagemaker_model_package_group" "this" {
  for_each = toset(var.cloudreg.models)

  model_package_group_name        = each.key
  model_package_group_description = "cloudreg model ${each.key}"
  tags                            = merge(var.tags, { cloudreg = each.key })
}

resource "aws_ecr_repository" "this" {
  for_each = var.repositories

  name                 = each.key
  image_tag_mutability = "IMMUTABLE"
  force_delete         = var.force_destroy
  tags                 = var.tags

  encryption_configuration {
    encryption_type = "KMS"
    kms_key         = local.key
  }
  image_scanning_configuration {
    scan_on_push = true
  }
}
