"""`await env.EMAIL_JOBS.send({"to": "ann"})`: messages that wait until somebody has dealt with them."""

from stead.bindings.queue.actor import QueueShard, queue_class
from stead.bindings.queue.client import Queue, QueueStatus
from stead.bindings.queue.message import Leased, Pulled, QueueSettings
from stead.bindings.queue.parcel import Outgoing

__all__ = ["Leased", "Outgoing", "Pulled", "Queue", "QueueSettings", "QueueShard", "QueueStatus", "queue_class"]
