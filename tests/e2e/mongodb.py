"""A real server that speaks MongoDB's protocol (tests/mongodb), started and stopped by the test that wants it."""

import os
import select
import subprocess
import tempfile
import time

from kiln import SLOW


class Server:
    """`binary` is what tests/mongodb/server builds. It keeps its records in `state`, and its port when it is started
    again."""

    def __init__(self, binary, state, user=None, password=None):
        self.binary, self.state = str(binary), str(state)
        self.credentials = ["--user", user, "--password", password] if user else []
        self.address = "127.0.0.1:0"
        self.process = None
        self.start()

    def start(self):
        self.stderr = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [self.binary, "--state", self.state, "--listen", self.address, *self.credentials],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.stderr)
        deadline = time.monotonic() + 10 * SLOW
        ready, _, _ = select.select([self.process.stdout], [], [], deadline - time.monotonic())
        line = self.process.stdout.readline().decode().strip() if ready else ""
        if not line.startswith("mongodb://"):
            self.process.kill()
            self.stderr.seek(0)
            raise AssertionError(f"the database does not start: {line!r} {self.stderr.read().decode()}")
        self.uri = line
        self.address = line.removeprefix("mongodb://").rpartition("@")[2].split("/")[0]

    @property
    def pid(self):
        return self.process.pid

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.stderr.close()

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10 * SLOW)
            except subprocess.TimeoutExpired:
                pass
        self.kill()


def server_binary():
    try:
        return os.environ["KILN_MONGODB_SERVER"]
    except KeyError:
        raise AssertionError("KILN_MONGODB_SERVER must name the server that tests/mongodb/server builds") from None
