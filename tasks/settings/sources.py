"""`[sources.NAME]`: the table of each kind of source."""

from typing import Annotated

from pydantic import Field

from tasks.settings.kafka import KafkaTable
from tasks.settings.queues import SqsTable

AnySource = Annotated[SqsTable | KafkaTable, Field(discriminator="kind")]
