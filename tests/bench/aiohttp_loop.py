"""The barest loop that Python's fastest client allows: one check of the status, no ledger."""

import asyncio
import sys
from pathlib import Path

import aiohttp


async def delete_all(base_url: str, ids: list[str], in_flight: int) -> None:
    left = iter(ids)
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer bench"}) as session:

        async def work() -> None:
            for response_id in left:
                async with session.delete(f"{base_url}/v1/responses/{response_id}") as answer:
                    answer.raise_for_status()
                    await answer.read()

        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(work())


if __name__ == "__main__":
    asyncio.run(delete_all(sys.argv[1], Path(sys.argv[2]).read_text().split(), int(sys.argv[3])))
