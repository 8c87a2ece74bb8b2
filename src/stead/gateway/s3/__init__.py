"""The S3 endpoint: every bucket for whoever speaks S3. Loaded by applications that have buckets. See DESIGN.md."""

from stead.gateway.s3.endpoint import S3Endpoint

__all__ = ["S3Endpoint"]
