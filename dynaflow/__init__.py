"""An async framework for Amazon DynamoDB Streams."""

__version__ = "0.1.0"
