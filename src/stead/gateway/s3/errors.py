"""What S3 calls its errors, and what ours are called there."""

from __future__ import annotations

from stead.bindings.bucket import BadDigest, InvalidPart, InvalidPartOrder, NoSuchUpload, PartTooSmall, RangeNotSatisfiable
from stead.errors import Invalid, Overloaded, SteadError, Unavailable

_ERRORS: dict[str, tuple[int, str]] = {
    "AccessDenied": (403, "Access Denied"),
    "AuthorizationHeaderMalformed": (400, "The authorization header is malformed."),
    "AuthorizationQueryParametersError": (400, "The signature in the query is malformed."),
    "BadDigest": (400, "The body is not what its checksum says."),
    "BucketAlreadyOwnedByYou": (409, "The bucket exists already, and it is yours."),
    "EntityTooLarge": (400, "The body is larger than a single upload may be."),
    "EntityTooSmall": (400, "Every part but the last must have 5 MiB or more."),
    "IncompleteBody": (400, "The body ended before it was whole."),
    "InternalError": (500, "We encountered an internal error. Please try again."),
    "InvalidAccessKeyId": (403, "There is no credential with this access key id."),
    "InvalidArgument": (400, "Invalid Argument"),
    "InvalidDigest": (400, "The checksum is malformed."),
    "InvalidPart": (400, "A part was not uploaded, or not with this ETag."),
    "InvalidPartOrder": (400, "The parts are not in ascending order."),
    "InvalidRange": (416, "The range cannot be satisfied."),
    "InvalidRequest": (400, "Invalid Request"),
    "InvalidURI": (400, "The address cannot be parsed."),
    "KeyTooLongError": (400, "A key has at most 1,024 bytes."),
    "MalformedXML": (400, "The XML is not well formed, or not what this operation takes."),
    "MetadataTooLarge": (400, "The metadata is larger than 2 KiB."),
    "MethodNotAllowed": (405, "This method is not allowed here."),
    "NoSuchBucket": (404, "There is no such bucket: buckets are declared in the application's manifest."),
    "NoSuchKey": (404, "There is no object with this key."),
    "NoSuchUpload": (404, "There is no such upload: it was completed, aborted, or never begun."),
    "NotImplemented": (501, "This operation is not supported here."),
    "NotModified": (304, "Not Modified"),
    "PreconditionFailed": (412, "A condition of the request does not hold."),
    "RequestTimeTooSkewed": (403, "The request's time is more than 15 minutes from the server's."),
    "SignatureDoesNotMatch": (403, "The signature is not the one that this secret makes of this request."),
    "SlowDown": (503, "Too much work is waiting; try again a little later."),
    "XAmzContentSHA256Mismatch": (400, "The body is not what x-amz-content-sha256 says."),
}


class S3Error(Exception):
    """An answer of S3's that is an error, by its code."""

    def __init__(self, code: str, message: str | None = None, **fields: str) -> None:
        self.status, usual = _ERRORS[code]
        self.code = code
        self.message = message or usual
        self.fields = fields  # more elements of the answer
        super().__init__(f"{code}: {self.message}")


_OURS: list[tuple[type[SteadError], str]] = [  # the first that fits
    (BadDigest, "BadDigest"),
    (InvalidPart, "InvalidPart"),
    (InvalidPartOrder, "InvalidPartOrder"),
    (NoSuchUpload, "NoSuchUpload"),
    (PartTooSmall, "EntityTooSmall"),
    (RangeNotSatisfiable, "InvalidRange"),
    (Invalid, "InvalidArgument"),
    (Overloaded, "SlowDown"),
    (Unavailable, "SlowDown"),
]


def of_ours(error: SteadError) -> S3Error | None:
    """What an error of the bucket is called; None for one that is nobody's fault outside."""
    return next((S3Error(code, str(error)) for kind, code in _OURS if isinstance(error, kind)), None)
