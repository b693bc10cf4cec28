"""What the drills share: clients that insert records and remember which were acknowledged."""

import collections
import contextlib
import http.client
import json
import pathlib
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))

import kiln  # noqa: E402  found in the folder above


def use(build):
    """Names the program for kiln.py, which takes it from the environment."""
    if build:
        kiln.os.environ["KILN_BINARY"] = str(pathlib.Path(build).resolve() / "app/kiln")


class Inserters:
    """Clients that insert until they are stopped, each record with a number of its own."""

    def __init__(self, port, threads, first=0):
        self.port = port
        self.acknowledged = {}  # id: number
        self.statuses = collections.Counter()
        self.wrong = []
        self.last_success = self.first_success = None  # of a time.monotonic() that reset() begins
        self.largest_gap = 0
        self._next = first
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _number(self):
        with self._lock:
            self._next += 1
            return self._next

    def _run(self):
        connection = None
        while not self._stop.is_set():
            number = self._number()
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
                connection.request("POST", "/data", body=json.dumps({"n": number}))
                answer = connection.getresponse()
                body = answer.read()
                if answer.getheader("Connection") == "close":
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException):
                with self._lock:
                    self.statuses["no answer"] += 1
                with contextlib.suppress(OSError):
                    if connection is not None:
                        connection.close()
                connection = None
                if self._stop.wait(0.01):
                    return
                continue
            self._note(number, answer.status, body)
            if answer.status == 503:
                self._stop.wait(0.02)

    def _note(self, number, status, body):
        with self._lock:
            self.statuses[status] += 1
            if status == 201:
                record = json.loads(body)
                if record["data"] != {"n": number}:
                    self.wrong.append(f"{number} was answered with {record}")
                if record["id"] in self.acknowledged:
                    self.wrong.append(f"{record['id']} was given twice")
                self.acknowledged[record["id"]] = number
                self.last_success = time.monotonic()
                if self.first_success is None:
                    self.first_success = self.last_success
            elif status == 503:
                if "detail" not in json.loads(body):
                    self.wrong.append(f"503 without a reason: {body}")
            else:
                self.wrong.append(f"{number} was answered with {status}")

    def forget_success(self):
        """The next success is the first."""
        with self._lock:
            self.first_success = None

    def count(self):
        with self._lock:
            return len(self.acknowledged)

    def stop(self):
        """Ends them; whoever waits for an answer gets it first, or the end of the connection."""
        self._stop.set()
        for thread in self._threads:
            thread.join(40)
            if thread.is_alive():
                self.wrong.append("a client still waits")
        return self


def stored(port):
    """{id: number} of all records, by pages."""
    found = {}
    after = ""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    while True:
        connection.request("GET", f"/data?limit=500{after}")
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise AssertionError(f"{answer.status}: {body}")
        if answer.getheader("Connection") == "close":
            connection.close()
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        page = json.loads(body)
        for item in page["items"]:
            if item["id"] in found:
                raise AssertionError(f"{item['id']} is on two pages")
            found[item["id"]] = item["data"]["n"]
        if page["next"] is None:
            return found
        after = f"&after={page['next']}"


def compare(acknowledged, found):
    """(lost, changed, doubled): of the acknowledged, and records stored twice under other ids."""
    lost = [id for id in acknowledged if id not in found]
    changed = [id for id, number in acknowledged.items() if id in found and found[id] != number]
    numbers = collections.Counter(found.values())
    doubled = [number for number, count in numbers.items() if count > 1]
    return lost, changed, doubled


def percentile(values, share):
    values = sorted(values)
    return values[min(int(len(values) * share), len(values) - 1)]


def probe_for(port, seconds):
    """GET /livez on new connections: milliseconds each."""
    taken = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/livez", headers={"Connection": "close"})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        if answer.status != 200:
            raise AssertionError(f"/livez answered {answer.status}")
        taken.append((time.perf_counter() - began) * 1000)
        time.sleep(0.001)  # as often as this, not as fast as it can
    return taken
