"""Signatures of version 4 (AWS Signature Version 4, for S3): in a header, or in the query of a presigned URL.

What is compared is compared in constant time. What was signed must name the host and every `x-amz-` header there is, so that nobody
between can add one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote_to_bytes

from stead.gateway.s3.errors import S3Error
from stead.gateway.s3.request import S3Request

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"
SKEW_MAX = timedelta(minutes=15)
EXPIRES_S_MAX = 7 * 24 * 3600
_VERSION_2 = (
    f"Signatures of version 2 are not supported. Please use {ALGORITHM}: in boto3, which presigns URLs in version 2 for us-east-1, "
    'with Config(signature_version="s3v4") or another region_name, such as "auto".'
)
_SAFE = "-._~"  # what is not percent-encoded, besides letters and digits
_MOMENT = "%Y%m%dT%H%M%SZ"
_HEADER = re.compile(r"\s*Credential=([^,\s]+)\s*,\s*SignedHeaders=([^,\s]+)\s*,\s*Signature=([0-9a-f]{64})\s*").fullmatch
_SPACES = re.compile(r" +")


@dataclass(frozen=True)
class Signature:
    """A signature as it came, and what it says it is of. `expires_s` is that of a presigned URL."""

    access_key_id: str
    scope: str  # date/region/s3/aws4_request
    moment: datetime
    signed_headers: tuple[str, ...]
    value: str
    payload: str  # the body's SHA-256, or how else it is signed
    expires_s: int | None = None


def read_signature(request: S3Request) -> Signature | None:
    """The signature of a request, None if it has none. Raises for one that is malformed."""
    authorization = request.headers.get("authorization")
    if authorization is not None:
        return _of_header(request, authorization)
    if "X-Amz-Signature" in request.parameters or "X-Amz-Algorithm" in request.parameters:
        return _of_query(request)
    if "Signature" in request.parameters:
        raise S3Error("InvalidRequest", _VERSION_2)
    return None


def check_signature(signature: Signature, secret: str, request: S3Request, now: datetime) -> Signer:
    """Raise unless the request is fresh and the signature is right. Returns who can sign the chunks of its body."""
    if signature.expires_s is None:
        if abs(now - signature.moment) > SKEW_MAX:
            raise S3Error("RequestTimeTooSkewed", RequestTime=signature.moment.strftime(_MOMENT), ServerTime=now.strftime(_MOMENT))
    elif now > signature.moment + timedelta(seconds=signature.expires_s):
        raise S3Error("AccessDenied", "Request has expired")
    elif signature.moment - now > SKEW_MAX:
        raise S3Error("AccessDenied", "Request is not valid yet")
    signer = Signer(secret, signature)
    wanted = signer.sign(ALGORITHM, _sha256(_canonical(request, signature).encode()))
    if not hmac.compare_digest(wanted, signature.value):
        raise S3Error("SignatureDoesNotMatch")
    return signer


class Signer:
    """Signs with the key that a secret has for one day, region and service."""

    def __init__(self, secret: str, signature: Signature) -> None:
        key = f"AWS4{secret}".encode()
        for part in signature.scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        self._key = key
        self._head = f"{signature.moment.strftime(_MOMENT)}\n{signature.scope}"
        self.seed = signature.value

    def sign(self, algorithm: str, *lines: str) -> str:
        text = "\n".join([algorithm, self._head, *lines])
        return hmac.digest(self._key, text.encode(), "sha256").hex()


def _of_header(request: S3Request, authorization: str) -> Signature:
    algorithm, _, rest = authorization.partition(" ")
    if algorithm == "AWS":
        raise S3Error("InvalidRequest", _VERSION_2)
    if algorithm != ALGORITHM:
        raise S3Error("InvalidRequest", f"The authorization mechanism you have provided is not supported. Please use {ALGORITHM}.")
    match = _HEADER(rest)
    if match is None:
        raise S3Error("AuthorizationHeaderMalformed")
    access_key_id, scope = _credential(match[1], "AuthorizationHeaderMalformed")
    payload = request.headers.get("x-amz-content-sha256")
    if payload is None:
        raise S3Error("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
    moment = _moment(request.headers.get("x-amz-date", ""), scope, "AuthorizationHeaderMalformed")
    return Signature(access_key_id, scope, moment, _signed_headers(request, match[2]), match[3], payload)


def _of_query(request: S3Request) -> Signature:
    parameters, malformed = request.parameters, "AuthorizationQueryParametersError"
    if parameters.get("X-Amz-Algorithm") != ALGORITHM:
        raise S3Error(malformed, f'X-Amz-Algorithm only supports "{ALGORITHM}"')
    access_key_id, scope = _credential(parameters.get("X-Amz-Credential", ""), malformed)
    moment = _moment(parameters.get("X-Amz-Date", ""), scope, malformed)
    expires = parameters.get("X-Amz-Expires", "")
    if not (expires.isascii() and expires.isdigit() and len(expires) < 10 and 0 < int(expires) <= EXPIRES_S_MAX):
        raise S3Error(malformed, f"X-Amz-Expires must be a number of seconds from 1 to {EXPIRES_S_MAX} (a week)")
    signed = _signed_headers(request, parameters.get("X-Amz-SignedHeaders", ""))
    payload = parameters.get("X-Amz-Content-Sha256") or request.headers.get("x-amz-content-sha256", UNSIGNED)
    return Signature(access_key_id, scope, moment, signed, parameters.get("X-Amz-Signature", ""), payload, int(expires))


def _credential(text: str, malformed: str) -> tuple[str, str]:
    access_key_id, _, scope = text.partition("/")
    parts = scope.split("/")
    if not access_key_id or len(parts) != 4 or parts[2:] != ["s3", "aws4_request"]:
        raise S3Error(malformed, "The credential must read KEY/DATE/REGION/s3/aws4_request.")
    return access_key_id, scope


def _moment(text: str, scope: str, malformed: str) -> datetime:
    try:
        moment = datetime.strptime(text, _MOMENT).replace(tzinfo=UTC)
    except ValueError as exc:
        raise S3Error("AccessDenied", "AWS authentication requires a valid X-Amz-Date.") from exc
    if not scope.startswith(f"{moment:%Y%m%d}/"):
        raise S3Error(malformed, "The credential's date is not that of the request.")
    return moment


def _signed_headers(request: S3Request, text: str) -> tuple[str, ...]:
    signed = tuple(text.split(";"))
    unsigned = {name for name in request.headers if name.startswith("x-amz-") or name == "host"} - set(signed)
    if unsigned:
        raise S3Error(
            "AccessDenied", f"There were headers present in the request which were not signed: {', '.join(sorted(unsigned))}"
        )
    return signed


def _canonical(request: S3Request, signature: Signature) -> str:
    query = sorted((_encoded(name), _encoded(value)) for name, value in request.query if name != "X-Amz-Signature")
    return "\n".join(
        [
            request.method,
            quote(unquote_to_bytes(request.raw_path), safe=f"/{_SAFE}"),
            "&".join(f"{name}={value}" for name, value in query),
            *(f"{name}:{_header(request.headers.getlist(name))}" for name in signature.signed_headers),
            "",
            ";".join(signature.signed_headers),
            signature.payload,
        ]
    )


def _header(values: Iterable[str]) -> str:
    return ",".join(_SPACES.sub(" ", value.strip()) for value in values)


def _encoded(text: str) -> str:
    return quote(text, safe=_SAFE)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
