"""Looking at a machine, a data directory and an engine, and saying what is wrong before users do."""

from stead.admin.doctor.finding import Finding, Level
from stead.admin.doctor.machine import Place, machine_findings
from stead.admin.doctor.postgres import postgres_findings
from stead.admin.doctor.sqlite import sqlite_findings

__all__ = ["Finding", "Level", "Place", "machine_findings", "postgres_findings", "sqlite_findings"]
