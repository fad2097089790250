"""`callstream demo`: Apache Kafka, an emulated Graph and the service in one go, judged from what the topics hold.

run.py     opens the three, makes calls happen, waits until everything must be there
watch.py   reads the topics as a consumer would and tells the judge
story.py   what a person sees
"""

from service.demo.run import demo_command

__all__ = ["demo_command"]
