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
  default     = "gcp"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9_]{0,39}$", var.target))
    error_message = "A target's name is a lower-case word of 40 characters at most; digits and _ are allowed after the first."
  }
  validation {
    condition     = try(var.cloudreg.targets[var.target].provider, "vertex") == "vertex"
    error_message = "This target is of another provider in cloudreg.toml: provider = \"vertex\" is what this module makes."
  }
}

variable "name" {
  description = "What the names of service accounts, roles, keys and alerts begin with; two deployments in one project need two."
  type        = string
  default     = "cloudreg"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z](-?[a-z0-9])*$", var.name)) && length(var.name) <= 18
    error_message = "A lower-case word with single hyphens between, of 18 characters at most."
  }
}

variable "project" {
  description = "The project's id. A stage that must be out of other deployers' reach needs a project of its own: roles on Google name no stage."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "6 to 30 lower-case letters, digits and hyphens: the id, not the number."
  }
}

variable "location" {
  description = "Region of everything, the bucket's too, such as `europe-west4`."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.location))
    error_message = "A region such as europe-west4, and neither a zone nor a multi-region."
  }
}

variable "enable_services" {
  description = "Whether the APIs that are needed are switched on; they are left on when all else goes."
  type        = bool
  default     = true
  nullable    = false
}

variable "bucket" {
  description = "Name of the bucket for artifacts and ledger. You choose it: a name that can be guessed can be taken by others first."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9_.-]{1,61}[a-z0-9]$", var.bucket)) && !can(regex("[.][.]|^goog|google", var.bucket))
    error_message = "3 to 63 lower-case letters, digits, dots, _ and hyphens, as Cloud Storage takes them, without google in them."
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

variable "soft_delete_days" {
  description = "Days in which what was deleted for good can still be brought back; 0 for none."
  type        = number
  default     = 7
  nullable    = false

  validation {
    condition     = var.soft_delete_days == 0 || var.soft_delete_days >= 7 && var.soft_delete_days <= 90
    error_message = "0, or 7 to 90 days."
  }
}

variable "access_logs" {
  description = "Another bucket that is told of every access; null for none."
  type        = object({ bucket = string, prefix = optional(string, "gcs/") })
  default     = null
}

variable "kms_key" {
  description = "A key of Cloud KMS in `location` that exists; null makes one."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key == null ? true : can(regex("^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.kms_key))
    error_message = "projects/PROJECT/locations/REGION/keyRings/RING/cryptoKeys/KEY"
  }
}

variable "key_rotation_days" {
  description = "Days after which a new version of the key is used for what is new."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = var.key_rotation_days >= 1 && floor(var.key_rotation_days) == var.key_rotation_days
    error_message = "A whole number of days."
  }
}

variable "image" {
  description = "Container image of versions that name none of their own. Null leaves it to cloudreg.toml."
  type        = string
  default     = null

  validation {
    condition     = var.image == null ? true : can(regex("^\\S{1,512}$", var.image))
    error_message = "An image has no spaces and 512 characters at most."
  }
}

variable "repositories" {
  description = "Image repositories to make in Artifact Registry. Their tags cannot be moved."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for name in var.repositories : can(regex("^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$", name))])
    error_message = "A lower-case word of letters, digits and hyphens, of 63 characters at most."
  }
}

variable "deployer_members" {
  description = "By stage: who may act as its deployer, such as `group:oncall@example.com`, or the output `gcp_members` of the module ci-github."
  type        = map(list(string))
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for stage in keys(var.deployer_members) : contains(var.cloudreg.stages, stage)])
    error_message = "There is no such stage in cloudreg.stages."
  }
  validation {
    condition     = alltrue([for member in flatten(values(var.deployer_members)) : can(regex("^(user|group|serviceAccount|principal|principalSet):", member))])
    error_message = "A member as IAM takes it, with its kind before it; allUsers and allAuthenticatedUsers are nobody in particular."
  }
}

variable "transfer" {
  description = "For a target with `transfer_above`: Storage Transfer Service may write files of versions into the bucket. From S3 it reads by `role_arn`, the output `transfer_role_arn` of the module aws. Null for no service."
  type        = object({ role_arn = optional(string) })
  default     = null

  validation {
    condition     = var.transfer == null ? true : var.transfer.role_arn == null ? true : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/", var.transfer.role_arn))
    error_message = "role_arn is the ARN of a role of AWS's."
  }
}

variable "endpoint_shells" {
  description = "Names of endpoints of cloudreg.toml that are made here, empty; cloudreg makes the others when it first deploys to them."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for name in var.endpoint_shells : try(var.cloudreg.endpoints[name].target, "") == var.target])
    error_message = "There is no such endpoint on this target in cloudreg.endpoints."
  }
}

variable "private_service_connect" {
  description = "Projects that may reach the endpoints privately; they have no public address then."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for project in var.private_service_connect : can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", project))])
    error_message = "The id of a project."
  }
}

variable "alerts" {
  description = "Who is told when an endpoint exceeds the limits of its rollout; null makes no alert."
  type = object({
    emails   = optional(set(string), [])
    channels = optional(set(string), [])
  })
  default = {}

  validation {
    condition     = var.alerts == null ? true : alltrue([for email in var.alerts.emails : can(regex("^\\S+@\\S+$", email))])
    error_message = "An address of electronic mail."
  }
  validation {
    condition     = var.alerts == null ? true : alltrue([for channel in var.alerts.channels : can(regex("^projects/[^/]+/notificationChannels/[^/]+$", channel))])
    error_message = "projects/PROJECT/notificationChannels/ID"
  }
}

variable "budget" {
  description = "USD a month for Vertex AI, and the account that pays; it is told at 80 and 100 percent. Null for none."
  type        = object({ usd = number, billing_account = string })
  default     = null

  validation {
    condition     = var.budget == null ? true : var.budget.usd > 0 && floor(var.budget.usd) == var.budget.usd && can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.budget.billing_account))
    error_message = "Whole dollars, and a billing account such as 0AF1B2-C3D4E5-F60718."
  }
}

variable "labels" {
  description = "Labels of everything that is made and has any."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key in keys(var.labels) : !can(regex("^cloudreg", key))])
    error_message = "Labels that begin with cloudreg are its own."
  }
}
