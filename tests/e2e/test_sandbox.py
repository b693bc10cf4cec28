"""What a running server can no longer do, and that it does everything else."""

import pathlib
import re
import unittest

import kiln
from kiln import KilnTest


def seccomp_of_threads(server):
    """{thread's name: (mode, no_new_privs)} as proc(5) tells it; 2 is a filter."""
    found = {}
    for task in pathlib.Path(f"/proc/{server.pid}/task").iterdir():
        status = dict(re.findall(r"^(\w+):\s*(.*)$", (task / "status").read_text("utf-8"), re.MULTILINE))
        found[f"{status['Name']} {status['Pid']}"] = (status["Seccomp"], status["NoNewPrivs"])
    return found


class Sandbox(KilnTest):
    def check_work(self, server):
        """Threads that start only now included: the burners', the memory's and the access log's."""
        self.assertEqual(server.fetch("/api/info").status, 200)
        self.assertEqual(server.fetch("/load?ms=2").status, 200)
        self.assertEqual(server.fetch("/burn", method="POST", body=b'{"millicores":10,"seconds":60}').status, 202)
        self.assertEqual(server.fetch("/memory", method="POST", body=b'{"mebibytes":1,"seconds":60}').status, 202)
        server.metrics()

    def test_every_thread_is_in_it(self):
        server = self.start("--workers", "2", "--access-log", "1")
        self.assertEqual(server.listening["sandbox"], "on")
        before = len(seccomp_of_threads(server))
        self.check_work(server)
        threads = seccomp_of_threads(server)
        self.assertGreater(len(threads), before)
        for thread, confined in threads.items():
            self.assertEqual(confined, ("2", "1"), thread)

    def test_can_be_turned_off(self):
        ours = re.search(r"^Seccomp:\s*(\d)", pathlib.Path("/proc/self/status").read_text("utf-8"), re.MULTILINE)[1]
        for flags, env in ((["--no-sandbox"], None), ([], {"KILN_NO_SANDBOX": "1"})):
            server = self.start(*flags, env=env)
            self.assertEqual(server.listening["sandbox"], "off: --no-sandbox")
            for thread, (mode, _) in seccomp_of_threads(server).items():
                self.assertEqual(mode, ours, thread)
            self.check_work(server)

    def test_server_goes_on_without(self):
        server = self.start(confine=["--deny", "seccomp=EPERM"])
        self.assertRegex(server.listening["sandbox"], "^off: .*seccomp")
        [warning] = server.log("the sandbox cannot be had")
        self.assertEqual("off: " + warning["reason"], server.listening["sandbox"])
        self.check_work(server)

    def test_lies_over_the_filter_of_a_container(self):
        server = self.start(engine="auto", confine=["--deny", "io_uring=EPERM"])
        self.assertEqual((server.listening["engine"], server.listening["sandbox"]), ("epoll", "on"))
        self.check_work(server)


class Ring(KilnTest):
    def test_is_restricted(self):
        server = self.start()
        self.assertEqual(server.listening["ring_restrictions"], "in force" if kiln.ENGINE == "io_uring" else "none")

    def test_serves_where_restrictions_are_refused(self):
        server = self.start(engine="io_uring", confine=["--deny", "ring_restrictions=EINVAL"])
        self.assertRegex(server.listening["ring_restrictions"], "^refused: .*Invalid argument")
        self.assertEqual(server.fetch("/api/info").status, 200)


if __name__ == "__main__":
    unittest.main()
