"""Makes a Delta table look as if everything in it had happened days ago, so that retention can be tested without waiting."""

import json
import os
import time
from pathlib import Path


def age_table(folder: Path, days: float) -> None:
    """Move the commits of a table without checkpoints, and its files, `days` into the past."""
    seconds = days * 86_400
    for log in sorted((folder / "_delta_log").glob("*.json")):
        actions = [json.loads(line) for line in log.read_text().splitlines()]
        for action in actions:
            if "remove" in action:
                action["remove"]["deletionTimestamp"] -= int(seconds * 1000)
            if "commitInfo" in action:
                action["commitInfo"]["timestamp"] -= int(seconds * 1000)
        log.write_text("\n".join(map(json.dumps, actions)) + "\n")
    now = time.time()
    for file in folder.rglob("*"):
        if file.is_file():
            os.utime(file, (now - seconds, now - seconds))
