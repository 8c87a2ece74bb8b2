"""`env.DOCUMENTS` of a `bucket`: objects of any size by key, with metadata, conditions, and uploads in parts."""

from stead.bindings.bucket.blobs import BLOBS, Blobs
from stead.bindings.bucket.client import Bucket, Draft, cursor_behind
from stead.bindings.bucket.conditions import Conditions, Refusal, refusal
from stead.bindings.bucket.credentials import Credential, Credentials, CredentialStore
from stead.bindings.bucket.digests import ALGORITHMS, Digest, new_digest
from stead.bindings.bucket.events import Action, BucketEvent, Cause, EventRule, Watch
from stead.bindings.bucket.failures import BadDigest, InvalidPart, InvalidPartOrder, NoSuchUpload, PartTooSmall, RangeNotSatisfiable
from stead.bindings.bucket.index import BucketIndex, index_class
from stead.bindings.bucket.objects import (
    HEADER_VALUE,
    BucketObject,
    BucketPage,
    ByteRange,
    HttpMetadata,
    ObjectBody,
    Part,
    Upload,
    check_key,
)
from stead.bindings.bucket.uploads import MultipartUpload

__all__ = [
    "ALGORITHMS",
    "BLOBS",
    "HEADER_VALUE",
    "Action",
    "BadDigest",
    "Blobs",
    "Bucket",
    "BucketEvent",
    "BucketIndex",
    "BucketObject",
    "BucketPage",
    "ByteRange",
    "Cause",
    "Conditions",
    "Credential",
    "CredentialStore",
    "Credentials",
    "Digest",
    "Draft",
    "EventRule",
    "HttpMetadata",
    "InvalidPart",
    "InvalidPartOrder",
    "MultipartUpload",
    "NoSuchUpload",
    "ObjectBody",
    "Part",
    "PartTooSmall",
    "RangeNotSatisfiable",
    "Refusal",
    "Upload",
    "Watch",
    "check_key",
    "cursor_behind",
    "index_class",
    "new_digest",
    "refusal",
]
