# What outlives a model, on both clouds. What changes with one stands in ../cloudreg.toml.

terraform {
  required_providers {
    aws    = { source = "hashicorp/aws" }
    google = { source = "hashicorp/google" }
  }
}

# cloudreg.auto.tfvars.json, which `cloudreg tf vars` writes.
variable "cloudreg" {
  description = "Models, stages and endpoints."
  type        = any
}

variable "project" {
  description = "The Google project."
  type        = string
  default     = "emulated-project"
}

variable "suffix" {
  description = "What makes the buckets' names hard to guess."
  type        = string
  default     = "7f3a91"
}

provider "aws" {}

provider "google" {
  project = var.project
}

module "github" {
  source              = "../../../terraform/modules/ci-github"
  repository          = "acme/models"
  repository_id       = "123456789"
  repository_owner_id = "987654"
  environments        = { staging = "staging", prod = "production" }
  aws                 = {}
  google              = { project = var.project }
}

module "aws" {
  source         = "../../../terraform/modules/aws"
  cloudreg       = var.cloudreg
  bucket         = "acme-models-${var.suffix}"
  force_destroy  = true # it is an example
  deployer_trust = module.github.aws_trust
  image          = "123456789012.dkr.ecr.us-east-1.amazonaws.com/cloudreg-serving:1"
}

module "gcp" {
  source           = "../../../terraform/modules/gcp"
  cloudreg         = var.cloudreg
  project          = var.project
  location         = "us-central1"
  bucket           = "acme-models-${var.suffix}-gcs"
  force_destroy    = true
  deployer_members = module.github.gcp_members
  image            = "us-central1-docker.pkg.dev/${var.project}/serve/cloudreg-serving:1"
}

output "cloudreg" {
  value = {
    contract = 1
    targets  = { aws = module.aws.target, gcp = module.gcp.target }
    facts    = { aws = module.aws.facts, gcp = module.gcp.facts }
  }
}
