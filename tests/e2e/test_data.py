"""Records: /data over every database that needs no server of its own."""

import contextlib
import json
import pathlib
import resource
import select
import shutil
import signal
import sqlite3
import tempfile
import time
import unittest

import kiln
from data_contract import DataContract, insert, items
from kiln import SLOW, KilnTest, Together, encode_request, eventually

JSON = {"Content-Type": "application/json"}


class Memory(DataContract, KilnTest):
    def start_store(self, *flags):
        return self.start("--data-uri", "memory:", *flags)

    def test_the_oldest_go_when_there_is_no_room(self):
        server = self.start_store()
        data = json.dumps({"x": "x" * 60_000})
        ids = [insert(server, data) for _ in range(300)]
        self.assertEqual(server.fetch(f"/data/{ids[0]}").status, 404)
        self.assertEqual(server.fetch(f"/data/{ids[-1]}").status, 200)
        kept = [item["id"] for item in items(server, limit=20)]
        self.assertEqual(kept, [id for id in reversed(ids) if id in kept], "the newest, in order")
        self.assertGreater(len(kept), 200)
        if not kiln.SANITIZED:
            self.assertLess(server.resident_bytes(), 48 * 1024 * 1024)


class SqliteTest(KilnTest):
    def setUp(self):
        super().setUp()
        self.directory = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.file = self.directory / "kiln.db"

    def start_store(self, *flags):
        return self.start("--data-dir", self.directory, *flags)

    @contextlib.contextmanager
    def running(self):
        """A server for a while, ended in order."""
        server = kiln.Server("--data-dir", self.directory)
        self.addCleanup(server.kill)
        yield server
        server.end()

    def insert_refused(self, server, *words):
        """What a POST is told that is not acknowledged."""
        answer = server.fetch("/data", JSON, method="POST", body=b"{}")
        self.assert_problem(answer, 503, *words)
        self.assertEqual(answer.header("Retry-After"), "1")
        return answer.json()["detail"]

    def store_log(self, server):
        return [record for record in server.log() if record["msg"].startswith("records ")]

    def is_written(self, server):
        return server.fetch("/data", JSON, method="POST", body=b"{}").status == 201


class Sqlite(DataContract, SqliteTest):
    def test_records_outlive_the_process(self):
        with self.running() as server:
            ids = [insert(server, '{"loadtest":"true"}')]
        killed = kiln.Server("--data-dir", self.directory)
        ids += [insert(killed, "{}") for _ in range(10)]
        killed.kill()
        with self.running() as server:
            self.assertEqual([item["id"] for item in items(server)], ids[::-1])
            self.assertGreater(insert(server, "{}"), ids[-1])

    def test_the_directory_is_made(self):
        server = self.start("--data-dir", self.directory / "new")
        insert(server, "{}")
        self.assertTrue((self.directory / "new/kiln.db").exists())

    def test_a_path_of_its_own(self):
        server = self.start("--data-uri", f"sqlite:{self.directory}/other.file")
        insert(server, "{}")
        self.assertTrue((self.directory / "other.file").exists())

    def test_two_processes_share_a_file(self):
        servers = [self.start_store(), self.start_store()]
        ids = {server: [] for server in servers}

        def run(server):
            for n in range(50):
                ids[server].append(insert(server, json.dumps({"n": n})))

        with Together(*(lambda server=server: run(server) for server in servers)):
            pass
        for server in servers:
            self.assertEqual({item["id"] for item in items(server)}, {id for mine in ids.values() for id in mine})


class Trouble(SqliteTest):
    def check_serving(self, server):
        """Nothing but /data suffers."""
        for path in ("/livez", "/readyz", "/startupz", "/api/info", "/metrics"):
            self.assertEqual(server.fetch(path).status, 200, path)

    def test_no_directory_to_keep_them_in(self):
        where = self.directory / "missing/kiln"
        server = self.start("--data-dir", where)
        for _ in range(100):
            self.insert_refused(server, str(where), "unable to open database file")
        self.assert_problem(server.fetch("/data"), 503, str(where))
        self.check_serving(server)
        self.assertEqual(server.metrics().one("kiln_store_up"), 0)
        verbose = server.fetch("/readyz?verbose")
        self.assertEqual(verbose.status, 200)
        self.assertIn(f"[-] store failed: SQLite file {where}", verbose.body.decode())
        where.mkdir(parents=True)
        eventually(lambda: self.is_written(server), "writing once the directory is there", within=4)
        eventually(lambda: server.fetch("/data").status == 200, "reading too", within=4)
        self.assertEqual(len(items(server)), 1)
        self.assertEqual(server.metrics().one("kiln_store_up"), 1)
        said = [(record["level"], record["msg"]) for record in self.store_log(server)]
        self.assertEqual(sorted(said), [
            ("info", "records can be read again"), ("info", "records can be written again"),
            ("warning", "records cannot be read"), ("warning", "records cannot be written")])

    def test_a_file_in_the_way(self):
        self.file.parent.joinpath("plain").write_text("x")
        server = self.start("--data-dir", self.directory / "plain/below")
        self.insert_refused(server, "unable to open database file")
        self.check_serving(server)

    def test_files_of_others_are_left_alone(self):
        def another_program(path):
            with sqlite3.connect(path) as database:
                database.execute("CREATE TABLE records(id TEXT)")

        def another_version(path):
            with sqlite3.connect(path) as database:
                database.execute("CREATE TABLE records(id TEXT)")
                database.execute(f"PRAGMA application_id = {0x4b494c4e}")
                database.execute("PRAGMA user_version = 2")

        for name, make, words in (
                ("another program's", another_program, ["another program"]),
                ("another version", another_version, ["version 2"]),
                ("text", lambda path: path.write_text("some notes\n" * 1000), ["not a database"]),
                ("noise", lambda path: path.write_bytes(bytes(range(256)) * 64), ["not a database"])):
            with self.subTest(name):
                self.file.unlink(missing_ok=True)
                make(self.file)
                before = self.file.read_bytes()
                with self.running() as server:
                    self.insert_refused(server, *words)
                    self.assert_problem(server.fetch("/data"), 503, *words)
                    self.check_serving(server)
                self.assertEqual(self.file.read_bytes(), before)

    def test_a_damaged_file_is_read_no_further_and_not_written_over(self):
        with self.running() as server:
            with server.connect() as client:
                for n in range(1000):
                    client.send(encode_request("POST", "/data", JSON, json.dumps({"n": n, "x": "x" * 100}).encode()))
                    self.assertEqual(client.response().status, 201)
        whole = self.file.read_bytes()
        damaged = whole[:8192] + b"\xa5" * (len(whole) - 8192)
        self.file.write_bytes(damaged)
        with self.running() as server:
            self.assert_problem(server.fetch("/data"), 503, "malformed")
            self.insert_refused(server, "malformed")
            self.check_serving(server)
        self.assertEqual(self.file.read_bytes(), damaged)

    def test_the_file_is_full(self):
        server = self.start_store("--data-size-max", "256KiB")
        ids = []
        data = json.dumps({"text": "x" * 4000})

        def stores():
            answer = server.fetch("/data", JSON, method="POST", body=data.encode())
            if answer.status == 201:
                ids.append(answer.json()["id"])
            return answer.status == 201

        while stores():
            self.assertLess(len(ids), 100)
        for _ in range(50):
            self.insert_refused(server, "full")
        self.assertEqual([item["id"] for item in items(server)], ids[::-1], "what was acknowledged is there")
        self.assertEqual([record["msg"] for record in self.store_log(server)], ["records cannot be written"])
        self.check_serving(server)

        # Who removes is let through, and need not wait for his turn behind who inserts.
        for id in ids[:20]:
            self.assertEqual(server.fetch(f"/data/{id}", method="DELETE").status, 204)
        eventually(stores, "room again", within=4)

    def test_the_disk_refuses_to_write(self):
        # A limit on the size of files, the write-ahead log's too, at which the kernel sends a signal as well (SIGXFSZ).
        server = self.start_store()
        ids = [insert(server, json.dumps({"n": n})) for n in range(10)]
        limit = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (16 * 1024, limit[1]))
        eventually(lambda: not self.is_written(server), "the limit to be felt", within=4)
        self.insert_refused(server)
        self.check_serving(server)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, limit)
        eventually(lambda: self.is_written(server), "writing to go on", within=4)
        self.assertEqual([item["id"] for item in items(server)][-10:], ids[::-1])

    def test_the_file_is_removed(self):
        server = self.start_store()
        insert(server, "{}")
        for path in self.directory.iterdir():
            path.unlink()
        self.insert_refused(server, "removed or replaced")
        eventually(lambda: self.is_written(server), "a new file", within=4)
        self.assertEqual(len(items(server)), 1)

    def test_the_log_of_the_file_is_removed(self):
        server = self.start_store()
        insert(server, "{}")
        pathlib.Path(f"{self.file}-wal").unlink()
        self.insert_refused(server, "its log was removed")
        eventually(lambda: self.is_written(server), "a new log", within=4)

    def test_the_directory_goes_and_comes_back(self):
        server = self.start_store()
        ids = [insert(server, "{}") for _ in range(5)]
        away = self.directory.with_name(self.directory.name + "-away")
        self.addCleanup(shutil.rmtree, away, ignore_errors=True)
        self.directory.rename(away)
        self.insert_refused(server, "removed or replaced")
        self.insert_refused(server)
        self.assertFalse(self.directory.exists(), "nobody makes an empty one in its place")
        away.rename(self.directory)
        eventually(lambda: self.is_written(server), "writing to go on", within=4)
        self.assertEqual([item["id"] for item in items(server)][1:], ids[::-1], "nothing acknowledged is lost")

    def test_somebody_else_writes_for_long(self):
        server = self.start_store("--data-timeout", "300ms")
        insert(server, "{}")
        other = sqlite3.connect(self.file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        answer = server.fetch("/data", JSON, method="POST", body=b"{}")
        self.assert_problem(answer, 503, "has not answered in 0.3s")
        self.assertLess(time.monotonic() - began, 2 * SLOW)
        self.assertEqual(len(items(server)), 1, "reading does not wait for writing")
        self.check_serving(server)
        with server.connect() as client:  # a late answer is for nobody
            client.send(encode_request("POST", "/data", JSON, b"{}") + encode_request("GET", "/livez"))
            self.assert_problem(client.response(), 503)
            self.assertEqual(client.response().status, 200)
            other.execute("COMMIT")
            eventually(lambda: len(items(server)) == 3, "the writes that waited", within=8)
            self.assertEqual(client.get("/livez").status, 200)

    def test_a_full_queue_is_refused_with_a_time(self):
        server = self.start_store("--data-timeout", "30s", "--workers", "1")
        insert(server, "{}")
        other = sqlite3.connect(self.file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        # More than 16 MiB of data that waits.
        data = json.dumps({"x": "x" * 65_000}).encode()
        clients = [self.connect(server) for _ in range(300)]
        for client in clients:
            client.send(encode_request("POST", "/data", JSON, data))
        refused = eventually(lambda: select.select([client.socket for client in clients], [], [], 0)[0], "a refusal")
        self.assertLess(len(refused), 100)
        refused = [client for client in clients if client.socket in refused]
        for client in refused:
            answer = client.response()
            self.assert_problem(answer, 503, "too many requests wait")
            self.assertEqual(answer.header("Retry-After"), "1")
        self.check_serving(server)
        other.execute("COMMIT")
        statuses = [client.response().status for client in clients if client not in refused]
        self.assertEqual(set(statuses) - {503}, {201})
        self.assertEqual(len(items(server, limit=10)), 1 + statuses.count(201))

    def test_a_drain_waits_for_what_is_being_written(self):
        server = self.start_store("--drain-delay", "0s")
        insert(server, "{}")
        other = sqlite3.connect(self.file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        client = self.connect(server)
        client.send(encode_request("POST", "/data", JSON, b"{}"))
        self.assertTrue(client.is_silent(0.1))
        server.signal(signal.SIGTERM)
        self.assertTrue(client.is_silent(0.1))
        other.execute("COMMIT")
        answer = client.response()
        self.assertEqual(answer.status, 201)
        self.assertTrue(answer.closes)
        self.assertEqual(server.wait(), 0)

    def test_clients_that_leave_cost_nothing(self):
        server = self.start_store()
        for _ in range(200):
            client = server.connect()
            client.send(encode_request("POST", "/data", JSON, b"{}"))
            client.close()
        eventually(lambda: server.metrics().one("http_requests_in_flight") == 1, "all to be done")
        self.assertEqual(server.fetch("/livez").status, 200)


class Costs(SqliteTest):
    def test_a_record_costs_what_it_shall(self):
        server = self.start_store("--cost", "/data=5ms")
        for _ in range(40):
            insert(server, "{}")
        asked = server.metrics().one("kiln_burn_cpu_seconds_total", kind="asked")
        self.assertAlmostEqual(asked, 0.2, delta=0.0001)

    def test_what_is_refused_for_want_of_cpu_is_not_stored(self):
        server = self.start_store("--cost", "/data=1s", "--burn-queue", "100ms", "--workers", "1")
        with server.connect() as client:
            client.send(encode_request("POST", "/data", JSON, b"{}"))
            eventually(lambda: server.metrics().one("kiln_burn_queue_seconds") >= 0.1, "the burn to begin")
            for _ in range(3):
                answer = server.fetch("/data", JSON, method="POST", body=b"{}")
                self.assert_problem(answer, 503, "CPU time")
                self.assertEqual(answer.header("Retry-After"), "1")
            self.assertEqual(server.metrics().one("kiln_burn_rejected_total"), 3)
            self.assertEqual(client.response().status, 201)
        server = self.start_store()
        self.assertEqual(len(items(server)), 1)


if __name__ == "__main__":
    unittest.main()
