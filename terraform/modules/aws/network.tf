locals {
  has_group = try(var.network.vpc_id, null) != null && length(try(var.network.security_group_ids, [])) == 0
  groups    = var.network == null ? [] : local.has_group ? aws_security_group.this[*].id : var.network.security_group_ids
  services  = try(var.network.endpoints, false) ? toset(["ecr.api", "ecr.dkr", "logs", "monitoring", "sagemaker.api", "sagemaker.runtime", "sts"]) : toset([])
}

resource "aws_security_group" "this" {
  count = local.has_group ? 1 : 0

  name        = "${var.name}-model-servers"
  description = "Model servers that cloudreg deploys"
  vpc_id      = var.network.vpc_id
  tags        = var.tags
}

# Replicas of one endpoint speak with each other where instances share a volume or a model.
resource "aws_vpc_security_group_ingress_rule" "own" {
  count = local.has_group ? 1 : 0

  security_group_id            = aws_security_group.this[0].id
  description                  = "Each other, and the endpoints below"
  referenced_security_group_id = aws_security_group.this[0].id
  ip_protocol                  = "-1"
}

resource "aws_vpc_security_group_egress_rule" "https" {
  count = local.has_group ? 1 : 0

  security_group_id = aws_security_group.this[0].id
  description       = "AWS"
  cidr_ipv4         = "0.0.0.0/0"
  from_port         = 443
  to_port           = 443
  ip_protocol       = "tcp"
}

resource "aws_vpc_endpoint" "this" {
  for_each = local.services

  vpc_id              = var.network.vpc_id
  service_name        = "com.amazonaws.${local.region}.${each.key}"
  vpc_endpoint_type   = "Interface"
  subnet_ids          = var.network.subnet_ids
  security_group_ids  = local.groups
  private_dns_enabled = true
  tags                = var.tags
}

resource "aws_vpc_endpoint" "s3" {
  count = try(var.network.endpoints, false) ? 1 : 0

  vpc_id            = var.network.vpc_id
  service_name      = "com.amazonaws.${local.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = var.network.route_table_ids
  tags              = var.tags
}
