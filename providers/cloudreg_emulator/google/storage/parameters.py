"""Which query parameters each method has; any other is refused.

Source: the discovery document, https://storage.googleapis.com/$discovery/rest?version=v1
"""

from __future__ import annotations

from cloudreg_emulator.google.http import Request
from cloudreg_emulator.google.storage.refusals import not_emulated, unknown_parameter

_COMMON = frozenset(
    {
        "$alt",
        "$prettyPrint",
        "access_token",
        "alt",
        "callback",
        "fields",
        "key",
        "oauth_token",
        "prettyPrint",
        "quotaUser",
        "userIp",
        "userProject",
    }
)
_MATCH = "ifGenerationMatch ifGenerationNotMatch ifMetagenerationMatch ifMetagenerationNotMatch"
_SOURCE = _MATCH.replace("if", "ifSource")
_META = "ifMetagenerationMatch ifMetagenerationNotMatch"
_ACL = "predefinedAcl predefinedDefaultObjectAcl projection"

_METHODS: dict[str, frozenset[str]] = {
    name: frozenset(text.split())
    for name, text in {
        "buckets.list": "project prefix maxResults pageToken projection softDeleted "
        "returnPartialSuccess",
        "buckets.insert": f"project enableObjectRetention {_ACL}",
        "buckets.get": f"{_META} projection generation softDeleted",
        "buckets.patch": f"{_META} {_ACL}",
        "buckets.update": f"{_META} {_ACL}",
        "buckets.delete": _META,
        "buckets.getIamPolicy": "optionsRequestedPolicyVersion",
        "buckets.setIamPolicy": "",
        "buckets.testIamPermissions": "permissions",
        "anywhereCaches.list": "pageSize pageToken",
        "projects.serviceAccount.get": "",
        "objects.list": "delimiter endOffset includeFoldersAsPrefixes includeSoftDeleted "
        "includeTrailingDelimiter matchGlob maxResults pageToken prefix projection softDeleted "
        "startOffset versions filter",
        "objects.insert": f"{_MATCH} contentEncoding kmsKeyName name predefinedAcl projection "
        "uploadType upload_id upload_protocol",
        "objects.get": f"{_MATCH} generation projection softDeleted restoreToken",
        "objects.patch": f"{_MATCH} generation predefinedAcl projection overrideUnlockedRetention",
        "objects.update": f"{_MATCH} generation predefinedAcl projection overrideUnlockedRetention",
        "objects.delete": f"{_MATCH} generation",
        "objects.compose": "ifGenerationMatch ifMetagenerationMatch kmsKeyName "
        "destinationPredefinedAcl",
        "objects.copy": f"{_MATCH} {_SOURCE} sourceGeneration destinationKmsKeyName "
        "destinationPredefinedAcl projection",
        "objects.rewrite": f"{_MATCH} {_SOURCE} sourceGeneration destinationKmsKeyName "
        "destinationPredefinedAcl maxBytesRewrittenPerCall rewriteToken projection",
        "objects.restore": f"{_MATCH} generation copySourceAcl projection restoreToken",
        "batch": "",
    }.items()
}

_NOT_EMULATED = frozenset(
    {"matchGlob", "includeFoldersAsPrefixes", "filter", "restoreToken", "enableObjectRetention"}
)
"""Parameters that the service obeys and this does not: to pass over one would be a lie."""


def check(request: Request, method: str) -> None:
    """Refuse parameters that *method* does not have.

    Raises:
        Refused: 400, or 501 for those that the service has.
    """
    for name in request.query:
        if name in _COMMON:
            continue
        if name not in _METHODS[method]:
            raise unknown_parameter(name)
        if name in _NOT_EMULATED and request.arg(name) not in ("", "false"):
            raise not_emulated(f"{method} with {name}")
