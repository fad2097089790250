"""How every Kafka client of this program connects: one place for addresses, timeouts and (later) TLS and SASL."""

from typing import Any

from service.settings import Kafka


def client_options(kafka: Kafka) -> dict[str, Any]:
    """Keywords that aiokafka's producer, consumer and admin client share."""
    return {
        "bootstrap_servers": kafka.bootstrap_servers,
        "request_timeout_ms": int(kafka.request_timeout_seconds * 1000),
        "client_id": "callstream",
    }
