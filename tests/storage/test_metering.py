"""The meter against the kernel's own accounting of a process and its children."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_WORK = """
import json, resource, subprocess, sys, time
from factory_assets.storage.metering import Meter, Reading, process_started_at

BURN = "import time\\nuntil = time.process_time() + 0.4\\nwhile time.process_time() < until: sum(range(1000))"
meter, readings = Meter(), []

def measured(work):
    reading = Reading()
    with meter.measure("run", process_started_at() - 5, reading):
        work()
    readings.append(reading.usage)

def burn():
    exec(BURN)

measured(burn)
worker = subprocess.Popen([sys.executable, "-c", BURN])  # starts before the piece of work that waits for it
measured(worker.wait)
measured(lambda: subprocess.run([sys.executable, "-c", BURN], check=True))
measured(lambda: bytearray(64 << 20))
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(json.dumps({
    "metered": sum(usage.cpu_seconds + usage.overhead_cpu_seconds for usage in readings),
    "kernel": sum(usage.ru_utime + usage.ru_stime for usage in used),
    "overhead": readings[0].overhead_cpu_seconds,
    "cpu": [usage.cpu_seconds for usage in readings],
    "peaks": [usage.peak_memory_bytes for usage in readings],
    "bytes_read": [usage.bytes_read for usage in readings],
}))
"""


def test_all_that_a_process_and_its_children_used_is_metered_once() -> None:
    done = subprocess.run([sys.executable, "-c", _WORK], cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert abs(found["metered"] / found["kernel"] - 1) < 0.02
    assert found["overhead"] > 0.01  # the start of the interpreter and its imports
    assert min(found["cpu"][0], found["cpu"][2]) > 0.35
    assert found["peaks"][3] - found["peaks"][1] > 32 << 20  # the peak is that of the piece of work
    assert found["bytes_read"][2] > 0
