"""A server that nobody asks anything does nothing at all, and is up to date when somebody asks again."""

import datetime
import time
import unittest

from kiln import SANITIZED, SLOW, KilnTest, eventually

STILL = 3  # seconds: whatever is done once a second shows


@unittest.skipIf(SANITIZED, "ThreadSanitizer has a thread of its own that never rests")
class Idle(KilnTest):
    def wait_until_still(self, server):
        """Until no thread of the server has run for some seconds."""
        last, since = None, None

        def is_still():
            nonlocal last, since
            now, switches = time.monotonic(), server.context_switches()
            if switches != last:
                last, since = switches, now
            return now - since > STILL

        eventually(is_still, "no thread runs", within=15)

    def test_it_does_nothing(self):
        for flags in (["--workers", 1], ["--workers", 3, "--admin-port", 0]):
            with self.subTest(flags):
                server = self.start(*flags)
                self.wait_until_still(server)  # asked nothing yet
                with server.connect() as client:
                    for target in ("/", "/api/info", "/load?ms=1", "/metrics", "/nowhere"):
                        client.get(target)
                    self.wait_until_still(server)

    def test_figures_are_fresh_afterwards(self):
        server = self.start("--workers", 2)
        before, asked_at = server.info(), time.monotonic()
        self.wait_until_still(server)
        info = server.info()
        self.assertAlmostEqual(info["uptime_seconds"] - before["uptime_seconds"], time.monotonic() - asked_at,
                               delta=1.5 * SLOW)
        self.assertEqual(info["requests_total"], 1)
        stamp = datetime.datetime.fromisoformat(info["timestamp"].replace("Z", "+00:00")).timestamp()
        self.assertAlmostEqual(stamp, time.time(), delta=0.5 * SLOW)
        self.assertIsNotNone(info["cpu"]["used_millicores"])
        self.assertIsNotNone(info["cpu"]["used_millicores_15s"])

    def test_a_burn_shows_although_nothing_else_comes(self):
        server = self.start()
        self.wait_until_still(server)
        self.assertEqual(server.fetch("/load?ms=1000").status, 200)
        eventually(lambda: server.info()["cpu"]["used_millicores_15s"] > 50, "the burn of a second in fifteen")


if __name__ == "__main__":
    unittest.main()
