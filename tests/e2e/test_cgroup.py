"""A control group file that cannot be read: one clear line, and the server serves.

Making a file unreadable for root as well takes a mount namespace. Where there is none to be had, and only there, this
ends with 77, which CTest shows as a test that did not run.
"""

import json
import os
import re
import subprocess
import sys
import unittest

import kiln
from kiln import KilnTest, run


def quota_file():
    """Where this machine keeps our CPU limit, or nothing."""
    found = json.loads(run("doctor", "--format", "json").stdout)
    for name in ("cpu.max", "cpu.cfs_quota_us"):
        path = os.path.join(found["cgroup"] or "", name)
        if found["cgroup"] and os.path.exists(path):
            return path
    return None


def setUpModule():  # pylint: disable=invalid-name
    path = quota_file()
    why = None
    if path is None:
        why = "no file of this machine limits our CPU"
    else:
        tried = subprocess.run([*kiln.confined(["--cover", path]), "true"], capture_output=True, text=True, check=False)
        if tried.returncode != 0:
            why = tried.stderr.strip()
    if why:
        print(f"did not run: {why}")
        sys.stdout.flush()
        sys.exit(77)


class UnreadableQuota(KilnTest):
    def test_one_line_and_one_worker(self):
        path = quota_file()
        server = self.start(engine="auto", confine=["--cover", path])
        warnings = [record for record in server.log() if record["level"] == "warning"]
        self.assertEqual(len(warnings), 1, warnings)
        self.assertRegex(warnings[0]["msg"], rf"^{re.escape(path)}: .+")
        # Nobody knows that all CPUs are ours.
        self.assertEqual(server.info()["workers"], 1)
        self.assertIsNone(server.info()["cpu"]["limit_millicores"])
        self.assertEqual(server.fetch("/load?ms=1").status, 200)
        self.assertEqual(server.fetch("/readyz").status, 200)
        self.assertEqual(len([record for record in server.log() if record["level"] != "info"]), 1)

    def test_doctor_names_the_file(self):
        path = quota_file()
        ended = run("doctor", "--format", "json", confine=["--cover", path])
        self.assertEqual(ended.returncode, 0, ended)
        found = json.loads(ended.stdout)
        self.assertIn(path, found["cgroup_warning"])
        self.assertIsNone(found["cpu_limit_millicores"])


if __name__ == "__main__":
    unittest.main()
