"""`python -m tests.simulators`: the five simulated providers on loopback; one JSON line with their addresses when all are ready."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys

from . import kit, registry


async def main() -> int:
    """Serves until SIGTERM or SIGINT; returns the exit code."""
    arguments = kit.parser().parse_args()
    kinds = [kind for kind in registry.simulators() if not arguments.only or kind.key in arguments.only]
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as running:
        addresses: dict[str, list[str]] = {kind.key: [] for kind in kinds}
        wanted = [kind for kind in kinds for _copy in range(arguments.copies)]
        for offset, kind in enumerate(wanted):
            simulator = kind(latency=arguments.latency)
            if arguments.unlimited:
                simulator.unlimited()
            if arguments.size:
                simulator.populate(arguments.size)
            port = 0 if arguments.port == 0 else arguments.port + offset
            try:
                runner, bound = await kit.start(simulator, port)
            except OSError as error:
                print(f"port {port} for the simulator of {kind.key}: {error.strerror}", file=sys.stderr)
                return 1
            running.push_async_callback(runner.cleanup)
            addresses[kind.key].append(f"http://127.0.0.1:{bound}")
        print(json.dumps(addresses if arguments.copies > 1 else {key: urls[0] for key, urls in addresses.items()}), flush=True)
        await stop.wait()
    return 0


sys.exit(asyncio.run(main()))
