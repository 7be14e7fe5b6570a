"""The loop that an application would write itself: AsyncOpenAI, some workers, no ledger."""

import asyncio
import sys
from pathlib import Path

import openai


async def delete_all(base_url: str, ids: list[str], in_flight: int) -> None:
    left = iter(ids)
    async with openai.AsyncOpenAI(base_url=f"{base_url}/v1", api_key="bench") as client:

        async def work() -> None:
            for response_id in left:
                await client.responses.delete(response_id)

        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(work())


if __name__ == "__main__":
    asyncio.run(delete_all(sys.argv[1], Path(sys.argv[2]).read_text().split(), int(sys.argv[3])))
