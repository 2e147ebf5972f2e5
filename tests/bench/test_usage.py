"""CPU time and memory of a process with its children."""

import os
import subprocess
import sys

from tests.bench import usage


class TestUsage:
    def test_children_count(self):
        spin = "import time\nwhile time.process_time() < 0.2: pass\nprint(flush=True); input()"
        with subprocess.Popen([sys.executable, "-c", spin], stdin=-1, stdout=-1) as child:
            before = usage.cpu_seconds_by_process(os.getpid())
            child.stdout.readline()
            after = usage.cpu_seconds_by_process(os.getpid())
            assert after[child.pid] >= 0.2
            assert after[os.getpid()] >= before[os.getpid()]
            assert usage.cpu_seconds(os.getpid()) >= after[child.pid] + after[os.getpid()]
            assert usage.resident_bytes(os.getpid()) > usage.resident_bytes(child.pid) > 1_000_000
            child.communicate(b"\n")

    def test_children_that_have_ended_count(self):
        before = usage.cpu_seconds(os.getpid())
        subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.2: pass"], check=True)
        assert usage.cpu_seconds(os.getpid()) >= before + 0.19  # counted in steps of 10 ms
