"""The shop's reservations as they were before softlock, and how they move over: see the migrations.

Not used by the till; a copy of what a project with lock columns has, to try the move on.
"""

from django.db import models


class Reservation(models.Model):
    kit_id = models.BigIntegerField()
    status = models.CharField(max_length=8, default="reserved")

    def __str__(self) -> str:
        return f"kit {self.kit_id}: {self.status}"
