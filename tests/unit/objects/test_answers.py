"""What a store makes of the answers of S3; the answers are written down here."""

from __future__ import annotations

from typing import Any

import pytest

from cloudreg import errors
from cloudreg.objects import ObstoreObjects
from cloudreg.objects.store import MARK


def test_conflict_is_decided_by_reading(scripted: ObstoreObjects, script: Any) -> None:
    """After a 409 the put is sent once more, if the key is free."""
    script.say(409, "ConditionalRequestConflict")
    script.say(404)
    script.say(200)
    scripted.put(b"x", "key", if_absent=True)

    assert [method for method, _ in script.asked] == ["PUT", "HEAD", "PUT"]
    assert [h.get("if-none-match") for h in script.headers] == ["*", None, "*"]


def test_conflict_with_an_object(scripted: ObstoreObjects, script: Any) -> None:
    """After a 409 a key that somebody else took is taken."""
    script.say(409, "ConditionalRequestConflict")
    script.say(200, **{f"x-amz-meta-{MARK}": "another"})
    with pytest.raises(errors.AlreadyExists):
        scripted.put(b"x", "key", if_absent=True)


def test_conflict_without_end(scripted: ObstoreObjects, script: Any) -> None:
    """Who meets a 409 twice, and finds nothing, is told that the outcome is open."""
    for _ in range(2):
        script.say(409, "ConditionalRequestConflict")
        script.say(404)
    with pytest.raises(errors.Unavailable, match="try again"):
        scripted.put(b"x", "key", if_absent=True)

    assert len(script.asked) == 4


def test_taken_at_once_needs_no_look(scripted: ObstoreObjects, script: Any) -> None:
    """A 412 to the first request can only be about somebody else's object."""
    script.say(412, "PreconditionFailed")
    with pytest.raises(errors.AlreadyExists):
        scripted.put(b"x", "key", if_absent=True)

    assert len(script.asked) == 1


def test_taken_by_somebody_else_after_an_error(scripted: ObstoreObjects, script: Any) -> None:
    """A 412 to the second request is believed when the object is not of this put."""
    script.say(500, "InternalError")
    script.say(412, "PreconditionFailed")
    script.say(200)
    with pytest.raises(errors.AlreadyExists):
        scripted.put(b"x", "key", if_absent=True)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (301, "PermanentRedirect", errors.ConfigError),
        (400, "BadDigest", errors.IntegrityError),
        (400, "ExpiredToken", errors.PermissionDenied),
        (400, "KMS.DisabledException", errors.ConfigError),
        (400, "EntityTooLarge", errors.InvalidRequest),
        (401, "Unauthorized", errors.PermissionDenied),
        (403, "AccessDenied", errors.PermissionDenied),
        (403, "SignatureDoesNotMatch", errors.PermissionDenied),
        (404, "NoSuchBucket", errors.ConfigError),
        (404, "NoSuchKey", errors.NotFound),
        (405, "MethodNotAllowed", errors.InvalidRequest),
        (409, "OperationAborted", errors.AlreadyExists),
        (412, "PreconditionFailed", errors.Conflict),
    ],
)
def test_refusal(
    scripted: ObstoreObjects, script: Any, status: int, code: str, kind: type[Exception]
) -> None:
    """Each refusal is the error of ours that says most, on one line, with the target."""
    script.say(status, code)
    with pytest.raises(errors.CloudregError) as caught:
        scripted.open("key")

    assert type(caught.value) is kind
    assert caught.value.target == "aws"
    assert "\n" not in caught.value.message
    assert "'key'" in caught.value.message


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (429, "")])
def test_refusal_that_passes(scripted: ObstoreObjects, script: Any, status: int, code: str) -> None:
    """A refusal of the moment is asked about once more, and is then `Unavailable`."""
    script.say(status, code)
    script.say(status, code)
    with pytest.raises(errors.Unavailable):
        scripted.put(b"x", "key")

    assert len(script.asked) == 2


def test_no_answer(scripted: ObstoreObjects, script: Any) -> None:
    """An answer that breaks off leaves the outcome open."""
    for _ in range(2):
        script.say(200, Content_Length="-1")
    with pytest.raises(errors.Unavailable):
        scripted.put(b"x", "key")


def test_listing_of_a_missing_bucket(scripted: ObstoreObjects, script: Any) -> None:
    """A missing bucket is said to be missing, whatever is asked of it."""
    script.say(404, "NoSuchBucket")
    with pytest.raises(errors.ConfigError, match="no such bucket"):
        list(scripted.list("a"))


def test_listing_asks_for_one_page(scripted: ObstoreObjects, script: Any) -> None:
    """Who looks for one object asks once, for the names from there on."""
    script.answers.append((200, _LISTED, {}))
    found = next(scripted.list("blobs/7/ab"))

    assert (found.key, found.size) == ("blobs/7/ab", 7)
    ((method, path),) = script.asked
    assert method == "GET"
    assert path.startswith(
        "/b?list-type=2&prefix=blobs%2F7%2F&start-after=blobs%2F7%2Faa%F4%8F%BF%BF"
    )


_LISTED = """<ListBucketResult><Name>b</Name><Prefix>blobs/7/</Prefix><KeyCount>1</KeyCount>
<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated><Contents><Key>blobs/7/ab</Key>
<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>"e"</ETag><Size>7</Size></Contents>
</ListBucketResult>"""
