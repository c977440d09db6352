variable "cloudreg" {
  description = "Models, stages and endpoints, as `cloudreg tf vars` writes them."
  type = object({
    models = list(string)
    stages = list(string)
    endpoints = optional(map(object({
      model          = string
      stage          = string
      target         = string
      max_error_rate = optional(number)
      max_p95_ms     = optional(number)
    })), {})
    targets = optional(map(object({ provider = string, stages = list(string) })), {})
  })
  nullable = false

  validation {
    condition     = length(var.cloudreg.stages) > 0 && length(var.cloudreg.stages) == length(toset(var.cloudreg.stages))
    error_message = "There is at least one stage, and each is named once: cloudreg tf vars writes them in their order."
  }
  validation {
    condition = alltrue([
      for name in concat(var.cloudreg.models, var.cloudreg.stages, keys(var.cloudreg.endpoints)) :
      can(regex("^[a-z](-?[a-z0-9])*$", name)) && length(name) <= 63
    ])
    error_message = "Models, stages and endpoints are lower-case words with single hyphens between, of 63 characters at most."
  }
  validation {
    condition = alltrue([
      for endpoint in values(var.cloudreg.endpoints) :
      contains(var.cloudreg.models, endpoint.model) && contains(var.cloudreg.stages, endpoint.stage)
    ])
    error_message = "An endpoint serves one of models, from one of stages."
  }
  validation {
    condition = alltrue([
      for endpoint in values(var.cloudreg.endpoints) :
      (endpoint.max_error_rate == null ? true : endpoint.max_error_rate >= 0 && endpoint.max_error_rate <= 1) &&
      (endpoint.max_p95_ms == null ? true : endpoint.max_p95_ms > 0)
    ])
    error_message = "max_error_rate is a share between 0 and 1, and max_p95_ms is more than 0."
  }
}

variable "target" {
  description = "The target's name in cloudreg.toml: `[targets.NAME]`."
  type        = string
  default     = "aws"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9_]{0,39}$", var.target))
    error_message = "A target's name is a lower-case word of 40 characters at most; digits and _ are allowed after the first."
  }
  validation {
    condition     = try(var.cloudreg.targets[var.target].provider, "sagemaker") == "sagemaker"
    error_message = "This target is of another provider in cloudreg.toml: provider = \"sagemaker\" is what this module makes."
  }
}

variable "name" {
  description = "What the names of roles, topics and budgets begin with; two deployments in one account need two."
  type        = string
  default     = "cloudreg"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z](-?[a-z0-9])*$", var.name)) && length(var.name) <= 24
    error_message = "A lower-case word with single hyphens between, of 24 characters at most."
  }
}

variable "bucket" {
  description = "Name of the bucket for artifacts and ledger. You choose it: a name that can be guessed can be taken by others first."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.bucket)) && !can(regex("[.][.]|^xn--|-s3alias$", var.bucket))
    error_message = "3 to 63 lower-case letters, digits, dots and hyphens, as S3 takes them."
  }
}

variable "prefix" {
  description = "What all keys begin with, without a slash at its ends; empty for none."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^([A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*)?$", var.prefix)) && !can(regex("(^|/)[.][.]?(/|$)", var.prefix))
    error_message = "Letters, digits, _, . and -, with single slashes between, and no . or .. alone."
  }
}

variable "force_destroy" {
  description = "Whether destroying may take all models and the whole history along."
  type        = bool
  default     = false
  nullable    = false
}

variable "noncurrent_days" {
  description = "Days after which replaced and deleted objects are gone for good; null keeps them. The ledger has none."
  type        = number
  default     = 90

  validation {
    condition     = var.noncurrent_days == null ? true : var.noncurrent_days >= 1 && floor(var.noncurrent_days) == var.noncurrent_days
    error_message = "A whole number of days, or null."
  }
}

variable "access_logs" {
  description = "Another bucket, of the same account and region, that is told of every access; null for none."
  type        = object({ bucket = string, prefix = optional(string, "s3/") })
  default     = null
}

variable "kms_key_arn" {
  description = "A key that exists; null makes one. Its policy must let CloudWatch and S3 use it where alerts are sent."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null ? true : can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", var.kms_key_arn))
    error_message = "The ARN of a key, not of an alias: policies name keys by their ids."
  }
}

variable "key_deletion_days" {
  description = "Days between the end of a key and the end of all that it encrypted."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.key_deletion_days >= 7 && var.key_deletion_days <= 30
    error_message = "KMS takes 7 to 30 days."
  }
}

variable "image" {
  description = "Container image of versions that name none of their own; `aws:pytorch:2.6.0` is one of AWS's. Null leaves it to cloudreg.toml."
  type        = string
  default     = null

  validation {
    condition     = var.image == null ? true : can(regex("^\\S{1,255}$", var.image))
    error_message = "An image has no spaces and 255 characters at most."
  }
}

variable "repositories" {
  description = "Image repositories to make, such as `churn/server`. Their tags cannot be moved."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for name in var.repositories : can(regex("^[a-z0-9]+([._/-][a-z0-9]+)*$", name)) && length(name) >= 2])
    error_message = "ECR takes lower-case words, joined by single slashes, dots, hyphens or underscores."
  }
}

variable "image_accounts" {
  description = "Other accounts whose repositories the model servers may pull from, such as AWS's own for its images."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for account in var.image_accounts : can(regex("^[0-9]{12}$", account))])
    error_message = "An account is twelve digits."
  }
}

variable "deployer_principals" {
  description = "By stage: ARNs that may take its deployer's role on. A stage with neither these nor a trust is left to the policies of the account itself."
  type        = map(list(string))
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for stage in keys(var.deployer_principals) : contains(var.cloudreg.stages, stage)])
    error_message = "There is no such stage in cloudreg.stages."
  }
  validation {
    condition     = alltrue([for arn in flatten(values(var.deployer_principals)) : can(regex("^arn:aws[a-z-]*:(iam|sts)::[0-9]{12}:", arn))])
    error_message = "An ARN of IAM or STS, with its account."
  }
}

variable "deployer_trust" {
  description = "By stage: a trust policy as JSON, such as the output `aws_trust` of the module ci-github."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for stage in keys(var.deployer_trust) : contains(var.cloudreg.stages, stage)])
    error_message = "There is no such stage in cloudreg.stages."
  }
  validation {
    condition     = alltrue([for document in values(var.deployer_trust) : can(jsondecode(document).Statement)])
    error_message = "A policy document as JSON."
  }
}

variable "permissions_boundary" {
  description = "ARN of the policy that bounds every role that is made; null for none."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary == null ? true : can(regex("^arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/", var.permissions_boundary))
    error_message = "The ARN of a policy."
  }
}

variable "stage_names" {
  description = "Stage to what the console shows of it (`ModelLifeCycle.Stage`), where not Development, PreProduction and Production."
  type        = map(string)
  default     = null

  validation {
    condition     = var.stage_names == null ? true : length(values(var.stage_names)) == length(toset(values(var.stage_names)))
    error_message = "Each stage needs a name of its own."
  }
}

variable "answers" {
  description = "Below the prefix, what model servers may write to: answers of queues and of batch jobs, and captured requests, as cloudreg.toml names them."
  type        = set(string)
  default     = ["asynchronous", "batch", "capture"]
  nullable    = false

  validation {
    condition     = alltrue([for folder in var.answers : can(regex("^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$", folder)) && !can(regex("^(ledger|blobs|manifests|signatures|copies)(/|$)", folder))])
    error_message = "A prefix without slashes at its ends, and none where cloudreg keeps models and ledger."
  }
}

variable "network" {
  description = "Where model servers have their network interfaces; `vpc_id` makes a security group, and `endpoints` ways to AWS without the internet. Null is SageMaker's own network."
  type = object({
    subnet_ids         = list(string)
    security_group_ids = optional(list(string), [])
    vpc_id             = optional(string)
    route_table_ids    = optional(list(string), [])
    endpoints          = optional(bool, false)
  })
  default = null

  validation {
    condition     = var.network == null ? true : length(var.network.subnet_ids) >= 1 && length(var.network.subnet_ids) <= 16
    error_message = "One subnet at least, two for two zones, and 16 at most."
  }
  validation {
    condition     = var.network == null ? true : length(var.network.security_group_ids) > 0 || var.network.vpc_id != null
    error_message = "Name a security group, or the vpc_id in which one is made."
  }
  validation {
    condition     = var.network == null ? true : !var.network.endpoints || var.network.vpc_id != null
    error_message = "endpoints need the vpc_id."
  }
}

variable "transfer_subject" {
  description = "Whose Storage Transfer Service may read files of versions: the output `transfer_subject` of the module gcp. Null lets nobody."
  type        = string
  default     = null

  validation {
    condition     = var.transfer_subject == null ? true : can(regex("^[0-9]+$", var.transfer_subject))
    error_message = "The subject of an account of Google's is a number."
  }
}

variable "network_isolation" {
  description = "Whether containers have no network at all."
  type        = bool
  default     = false
  nullable    = false
}

variable "alerts" {
  description = "Who is told when an endpoint exceeds the limits of its rollout, and whether SageMaker undoes a change then. Null makes no alarm."
  type = object({
    emails   = optional(set(string), [])
    topics   = optional(set(string), [])
    rollback = optional(bool, false)
  })
  default = {}

  validation {
    condition     = var.alerts == null ? true : alltrue([for email in var.alerts.emails : can(regex("^\\S+@\\S+$", email))])
    error_message = "An address of electronic mail."
  }
  validation {
    condition     = var.alerts == null ? true : alltrue([for topic in var.alerts.topics : can(regex("^arn:aws[a-z-]*:sns:", topic))])
    error_message = "The ARN of a topic of SNS."
  }
}

variable "budget" {
  description = "USD a month for SageMaker, and who is told at 80 and 100 percent; null for none."
  type        = object({ usd = number, emails = set(string) })
  default     = null

  validation {
    condition     = var.budget == null ? true : var.budget.usd > 0 && length(var.budget.emails) >= 1 && length(var.budget.emails) <= 10
    error_message = "More than nothing, and one to ten addresses."
  }
}

variable "tags" {
  description = "Tags of everything that is made."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = !contains(keys(var.tags), "cloudreg")
    error_message = "The tag cloudreg says whose model it is, and is set here."
  }
}
