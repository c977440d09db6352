variable "repository" {
  description = "The repository whose workflows deploy, as `owner/name`."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9](-?[A-Za-z0-9])*/[A-Za-z0-9._-]+$", var.repository))
    error_message = "owner/name, without a pattern in it: a role for every repository of an owner is a role for everybody who may make one."
  }
}

variable "repository_id" {
  description = "Its number, from `gh api repos/OWNER/NAME --jq .id`: a name can be taken again by somebody else, a number cannot."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[1-9][0-9]{0,18}$", var.repository_id))
    error_message = "A number, such as 123456789."
  }
}

variable "repository_owner_id" {
  description = "The number of its owner, from `gh api users/OWNER --jq .id`."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[1-9][0-9]{0,18}$", var.repository_owner_id))
    error_message = "A number, such as 123456789."
  }
}

variable "environments" {
  description = "Stage to the environment of the repository whose jobs deploy up to it; its reviewers are the gate."
  type        = map(string)
  nullable    = false

  validation {
    condition     = length(var.environments) > 0 && alltrue([for name in values(var.environments) : can(regex("^[A-Za-z0-9][A-Za-z0-9_.-]{0,254}$", name))])
    error_message = "At least one, each a word of letters, digits, _, . and -: GitHub writes others in a way that a condition would have to repeat."
  }
  validation {
    condition     = length(distinct([for name in values(var.environments) : lower(name)])) == length(var.environments)
    error_message = "Each stage needs an environment of its own: what may deploy to one could deploy to both."
  }
}

variable "aws" {
  description = "Whether workflows are trusted on AWS; `provider_arn` where the account knows GitHub already. Null for not."
  type        = object({ provider_arn = optional(string) })
  default     = null

  validation {
    condition     = try(var.aws.provider_arn, null) == null ? true : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:oidc-provider/token[.]actions[.]githubusercontent[.]com$", var.aws.provider_arn))
    error_message = "The ARN of the account's provider for token.actions.githubusercontent.com."
  }
}

variable "google" {
  description = "The project in which a pool for workflows is made, and its name; null for none."
  type        = object({ project = string, pool = optional(string, "github") })
  default     = null

  validation {
    condition     = var.google == null ? true : can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.google.project))
    error_message = "The id of a project."
  }
  validation {
    condition     = var.google == null ? true : can(regex("^[a-z0-9-]{4,32}$", var.google.pool)) && !startswith(var.google.pool, "gcp-")
    error_message = "4 to 32 lower-case letters, digits and hyphens; gcp- is Google's own."
  }
}

variable "tags" {
  description = "Tags of what is made on AWS."
  type        = map(string)
  default     = {}
  nullable    = false
}
