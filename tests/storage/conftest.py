"""The fixtures of a running S3 for all tests of this folder."""

from tests.helpers.s3 import s3_environment, server

__all__ = ["s3_environment", "server"]
