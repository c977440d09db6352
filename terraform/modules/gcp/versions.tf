terraform {
  required_version = ">= 1.9" # a validation may look at another variable

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.11.2, < 9.0" # 6.11.0 and 6.11.1 delete the traffic of endpoints
    }
  }
}
