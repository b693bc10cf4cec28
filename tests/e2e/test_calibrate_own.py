"""`kiln calibrate` with a server of its own in a control group of its own. Where no such group can be made, and only
there, this ends with 77, which CTest shows as a test that did not run."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import unittest

import kiln
from kiln import SLOW, eventually
from test_calibrate import SHORT, CalibrateTest, groups_of


def controllers_of(group):
    return (group / "cgroup.controllers").read_text().split()


def parents():
    """Where kiln makes groups: below ours, which on version 1 are two; on version 2 beside it, or higher up."""
    own = pathlib.Path(json.loads(kiln.run("doctor", "--format", "json").stdout)["cgroup"] or "/none")
    if (own / "cgroup.controllers").exists():
        parent = own.parent if (own / "cgroup.type").exists() else own
        while (parent / "cgroup.type").exists() and "cpu" not in controllers_of(parent):
            parent = parent.parent
        return [parent]
    accounting = pathlib.Path(str(own).replace("/cgroup/cpu", "/cgroup/cpuacct", 1))
    return list(dict.fromkeys([own, accounting if accounting.exists() else own]))


def why_no_group():
    parent = parents()[0]
    directory = parent / f"kiln-test-{os.getpid()}"
    try:
        hand_cpu_down(parent)
        directory.mkdir()
    except OSError as error:
        return str(error)
    try:
        if (directory / "cpu.max").exists() or (directory / "cpu.cfs_quota_us").exists():
            return None
        return f"{directory} has no limit of CPU"
    finally:
        directory.rmdir()


def hand_cpu_down(parent):
    """On version 2 groups have limits of what their parent hands down."""
    if (parent / "cgroup.subtree_control").exists():
        (parent / "cgroup.subtree_control").write_text("+cpu")


def await_load(process):
    """Until it sends one, for which it has a thread; some builds have others from the start."""
    eventually(lambda: groups_of(process.pid), "a group")
    threads = pathlib.Path(f"/proc/{process.pid}/task")
    before = len(list(threads.iterdir()))
    eventually(lambda: len(list(threads.iterdir())) > before, "a load", within=20)


def setUpModule():  # pylint: disable=invalid-name
    if why := why_no_group():
        print(f"did not run: {why}")
        sys.stdout.flush()
        sys.exit(77)


class OwnServer(CalibrateTest):
    def test_is_measured_under_a_quota(self):
        out, err = self.calibrate("--quota", "500m", *SHORT, "--format", "json")
        found = json.loads(out)
        self.check_figures(found)
        self.assertEqual((found["server"], found["request"]), ("own", "GET /load?ms=5"))
        self.assertEqual((found["limit_millicores"], found["workers"]), (500, 1))
        self.assertIn("control group", found["judge"])
        self.assertAlmostEqual(found["line"]["cost_ms"], 5, delta=0.15)
        self.assertAlmostEqual(found["plateau_millicores"], 500, delta=150)
        self.assertEqual([burn["asked_ms"] for burn in found["burns"]], [0.1, 1, 5, 20, 100])
        for burn in found["burns"][1:]:
            self.assertAlmostEqual(burn["error_percent"], 0, delta=10)
        self.assertGreaterEqual(len(found["routes"]), 5)
        booked, billed = (sum(route[name] for route in found["routes"]) for name in ("booked_us", "billed_us"))
        self.assertAlmostEqual(booked / billed, 1, delta=0.3)
        self.assertIn("POST /data", [route["request"] for route in found["routes"]])
        self.assertTrue(found["machine"]["kernel"].startswith("Linux "))
        self.assertEqual(json.loads((self.folder / "calibration.json").read_text()), found)
        self.assertEqual(err, "kiln calibrate: written to calibration.json\n")  # no progress in a pipe

        # Read again it says the same.
        again = json.loads(self.calibrate("--from", "calibration.json", "--format", "json")[0])["advice"]
        self.assertEqual((again["recommended"], again["reason"]),
                         (found["advice"]["recommended"], found["advice"]["reason"]))
        for one, other in zip(again["thresholds"], found["advice"]["thresholds"], strict=True):
            for name, value in other.items():
                self.assertAlmostEqual(one[name], value, delta=1e-6 * abs(value))
        text = self.calibrate("--from", "calibration.json")[0]
        for words in ("GET /load?ms=5", "line ", "bend ", "GET /api/info", "recommended:", "200 %"):
            self.assertIn(words, text)

    def test_interrupted_it_shows_what_there_is(self):
        process = self.start_calibrate("--quota", "500m", "--format", "json")
        await_load(process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20 * SLOW)
        self.assertEqual(process.returncode, 130, err)
        self.assertIn("interrupted", err)
        found = json.loads(out)
        self.assertTrue(found["interrupted"])
        self.assertEqual((found["overload"], found["limit_millicores"]), ([], 500))
        self.assertNotIn("advice", found)
        self.assertEqual(list(self.folder.iterdir()), [])
        self.assertFalse(groups_of(process.pid))

    def test_interrupted_at_once_it_leaves_nothing(self):
        process = self.start_calibrate("--quota", "500m")
        eventually(lambda: groups_of(process.pid), "a group")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20 * SLOW)
        self.assertEqual(process.returncode, 143, err)
        self.assertIn("interrupted", err)
        self.assertFalse(groups_of(process.pid))

    def test_a_server_that_dies_ends_it(self):
        process = self.start_calibrate("--quota", "500m")
        await_load(process)
        os.kill(int((groups_of(process.pid)[0] / "cgroup.procs").read_text().split()[0]), signal.SIGKILL)
        out, err = process.communicate(timeout=60 * SLOW)
        self.assertEqual((process.returncode, out, err.count("\n")), (1, "", 1), err)
        self.assertRegex(err, "the server has ended|refused|closed_early|none of")
        self.assertFalse(groups_of(process.pid))

    def test_a_report_that_nobody_reads_is_kept(self):
        with open("/dev/full", "w", encoding="ascii") as full:
            process = subprocess.run([kiln.binary(), "calibrate", "--quota", "500m", *SHORT, "--format", "json"],
                                     cwd=self.folder, env=kiln.clean_environment(), stdin=subprocess.DEVNULL,
                                     stdout=full, stderr=subprocess.PIPE, text=True, timeout=90 * SLOW, check=False)
        self.assertEqual(process.returncode, 1, process.stderr)
        self.assertIn("No space left", process.stderr)
        self.assertEqual(json.loads((self.folder / "calibration.json").read_text())["schema"], 1)

    def test_killed_it_takes_its_server_with_it_and_the_next_one_clears_up(self):
        process = self.start_calibrate("--quota", "500m", *SHORT)
        groups = eventually(lambda: groups_of(process.pid), "a group")
        members = groups[0] / "cgroup.procs"
        eventually(members.read_text, "a server in the group")
        process.kill()
        process.communicate()
        eventually(lambda: not members.read_text(), "the server's end")
        self.assertTrue(groups_of(process.pid))
        self.calibrate("--quota", "500m", *SHORT, "--out", "")
        self.assertFalse(groups_of(process.pid))

    def test_under_a_smaller_limit_than_asked_for(self):
        """In a group of its own, which has less."""
        directories = [directory / f"kiln-test-outer-{os.getpid()}" for directory in parents()]
        for directory in directories:
            directory.mkdir()
            self.addCleanup(directory.rmdir)
        if (directories[0] / "cpu.max").exists():
            (directories[0] / "cpu.max").write_text("30000 100000")
        else:
            (directories[0] / "cpu.cfs_quota_us").write_text("30000")

        def enter():
            for directory in directories:
                (directory / "cgroup.procs").write_text("0")

        self.fails("--quota", "500m", *SHORT, status=2, words=["--quota 500m", "300m", str(directories[0])],
                   preexec_fn=enter)
        # And without asking, that is what counts.
        found = json.loads(self.calibrate(*SHORT, "--format", "json", preexec_fn=enter)[0])
        self.assertEqual((found["limit_millicores"], found["judge"]), (300, "the CPU clock of its process"))
        self.assertIn(str(directories[0]), found["limit_from"])
        self.assertTrue(any("share the limit" in note for note in found["notes"]), found["notes"])


if __name__ == "__main__":
    unittest.main()
