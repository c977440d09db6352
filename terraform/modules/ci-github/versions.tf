terraform {
  required_version = ">= 1.9" # a validation may look at another variable

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.80, < 7.0"
    }
    google = {
      source  = "hashicorp/google"
      version = ">= 6.11.2, < 9.0"
    }
  }
}
