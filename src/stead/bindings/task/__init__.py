"""`task "nightly" { cron = "0 2 * * *" }`: code that runs on a schedule, and `env.NIGHTLY`, which tells how it went."""

from stead.bindings.task.actor import TaskSettings, schedule_class
from stead.bindings.task.client import ScheduledTask, TaskStatus
from stead.bindings.task.run import Outcome, TaskRun, Trigger
from stead.bindings.task.service import task_service

__all__ = ["Outcome", "ScheduledTask", "TaskRun", "TaskSettings", "TaskStatus", "Trigger", "schedule_class", "task_service"]
