"""callstream: Teams call records from Microsoft Graph to Kafka, complete and exactly once."""

__version__ = "0.1.0"
