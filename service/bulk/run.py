"""Every row of a file through a server, several at a time; what failed is written down too."""

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from rm_core.errors import InvalidInput, RewardError
from service.bulk import rows
from service.bulk.journal import Found, Journal, recover
from service.bulk.progress import Progress
from service.bulk.rows import Row
from service.client import AsyncRewardClient, RewardClient, RewardServerError

# A refusal of this row; any other error says that the server is no use, and ends the run.
OF_THE_ROW = (400, 413, 415, 422, 500, 504)


@dataclass(frozen=True, slots=True)
class Job:
    """Which file, what of each row, and where the answers go."""

    command: str
    source: Path
    output: Path
    concurrency: int = 16
    keep: tuple[str, ...] = ()
    retry_failed: bool = False


@dataclass(frozen=True, slots=True)
class Server:
    """Where to ask, as given on the command line."""

    url: str
    api_key: str | None = None
    timeout_s: float = 300.0
    retries: int = 20
    expected_revision: str | None = None


def run(job: Job, server: Server) -> int:
    """The number of failed rows in the output, earlier runs' included."""
    total = rows.count_and_check(job.source)
    found = recover(job.output, job.command, retry_failed=job.retry_failed)
    revision = _revision(server)
    if found.revision not in (None, revision):
        raise InvalidInput(
            f"{job.output} holds answers of revision {found.revision}, {server.url} serves "
            f"{revision}; write to another file"
        )
    progress = Progress(total, len(found.done), sys.stderr, failed=len(found.failed))
    try:
        asyncio.run(_all_rows(job, server, revision, found, progress))
    finally:
        progress.finish()
    return progress.failed


def _revision(server: Server) -> str:
    """Of the model that answers now; the run ends when another one does."""
    with RewardClient(
        server.url,
        api_key=server.api_key,
        timeout_s=server.timeout_s,
        retries=min(5, server.retries),
        expected_revision=server.expected_revision,
    ) as client:
        return client.model().revision


async def _all_rows(
    job: Job, server: Server, revision: str, found: Found, progress: Progress
) -> None:
    left = (row for row in rows.read(job.source) if row.id not in found.done)
    client = AsyncRewardClient(
        server.url,
        api_key=server.api_key,
        timeout_s=server.timeout_s,
        retries=server.retries,
        expected_revision=revision,
        priority="bulk",
        concurrency=job.concurrency,
    )
    with Journal(job.output) as journal:
        async with client:
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(job.concurrency):
                        group.create_task(_work(left, job, client, journal, progress))
            except ExceptionGroup as ended:
                raise ended.exceptions[0] from None


async def _work(
    left: Iterator[Row], job: Job, client: AsyncRewardClient, journal: Journal, progress: Progress
) -> None:
    for row in left:
        answer = await _answer(row, job, client)
        kept = {name: row.fields[name] for name in job.keep if name in row.fields}
        journal.write(row.id, {**({"kept": kept} if kept else {}), **answer})
        progress.row_done(failed="error" in answer)


async def _answer(row: Row, job: Job, client: AsyncRewardClient) -> dict[str, Any]:
    """The answer without its id on the wire, or the error in the wire's form."""
    try:
        asked = rows.asking(row, job.command, job.source.parent, job.keep)
        found: BaseModel = await getattr(client, job.command)(
            asked.prompt, *asked.answers, images=asked.images
        )
        return found.model_dump(exclude={"id"})
    except RewardServerError as error:
        if not is_of_the_row(error):
            raise
        return _error(error.code, error.message, error.field, error.request_id)
    except RewardError as error:
        return _error(error.code, error.message, error.field)
    except OSError as error:
        return _error("unreadable_file", f"{row.where}: {error}", "images")


def is_of_the_row(error: RewardServerError) -> bool:
    return error.status in OF_THE_ROW or error.code == "deadline_passed"


def _error(
    code: str, message: str, field: str | None = None, request_id: str | None = None
) -> dict[str, Any]:
    told = {"code": code, "message": message, "field": field, "request_id": request_id}
    return {"error": told}
