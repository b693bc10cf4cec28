"""Records in MongoDB: on a real server of its protocol, and on a scripted peer for what no real one does on time.

KILN_MONGODB_SERVER is what tests/mongodb/server builds. With KILN_TEST_MONGODB_URI the tests that only need a server
use that one, a mongod for instance; each test has a database of its own there.
"""

import contextlib
import json
import os
import shutil
import tempfile
import time
import unittest
import uuid

import kiln
import mongodb
from data_contract import DataContract, insert, items
from kiln import SLOW, KilnTest, eventually
from mongodb_peer import Drop, Fail, Peer, RefuseDocuments, Stall, WriteConcernFails

JSON = {"Content-Type": "application/json"}
USER, PASSWORD = "kiln", "p@ss/w:rd%?"
OUTSIDE = os.environ.get("KILN_TEST_MONGODB_URI")


def temporary_directory(test):
    directory = tempfile.mkdtemp(prefix="kiln-mongodb-")
    test.addCleanup(shutil.rmtree, directory, ignore_errors=True)
    return directory


def start_database(test, **more):
    server = mongodb.Server(mongodb.server_binary(), temporary_directory(test), **more)
    test.addCleanup(server.end)
    return server


class MongodbTest(KilnTest):
    def store_log(self, server):
        return [record["msg"] for record in server.log() if record["msg"].startswith("records ")]

    def post(self, server, data=b"{}"):
        return server.fetch("/data", JSON, method="POST", body=data)

    def is_written(self, server):
        return self.post(server).status == 201

    def check_nothing_is_told(self, server, *secrets):
        for text in ["\n".join(server.lines), server.metrics_text()]:
            for secret in secrets:
                self.assertNotIn(secret, text)


class Contract(DataContract, MongodbTest):
    @classmethod
    def setUpClass(cls):
        cls.uri = OUTSIDE
        if cls.uri is None:
            directory = tempfile.TemporaryDirectory(prefix="kiln-mongodb-")
            cls.addClassCleanup(directory.cleanup)
            database = mongodb.Server(mongodb.server_binary(), directory.name, user=USER, password=PASSWORD)
            cls.addClassCleanup(database.end)
            cls.uri = database.uri

    def setUp(self):
        super().setUp()
        scheme, _, rest = self.uri.partition("://")
        hosts, _, options = rest.partition("?")
        self.own = f"{scheme}://{hosts.split('/')[0]}/test_{uuid.uuid4().hex}" + (f"?{options}" if options else "")

    def start_store(self, *flags):
        return self.start("--data-uri", self.own, *flags)

    def test_replicas_share_the_records(self):
        servers = [self.start_store(), self.start_store()]
        ids = [insert(servers[n % 2], json.dumps({"n": n})) for n in range(20)]
        for server in servers:
            self.assertEqual({item["id"] for item in items(server, 7)}, set(ids))
        self.assertEqual(servers[0].fetch(f"/data/{ids[1]}", method="DELETE").status, 204)
        self.assertEqual(servers[1].fetch(f"/data/{ids[1]}").status, 404)


@unittest.skipIf(OUTSIDE, "these start and stop a server of their own")
class Credentials(MongodbTest):
    def test_every_form(self):
        database = start_database(self, user=USER, password=PASSWORD)
        host = database.address
        escaped = "p%40ss%2Fw%3Ard%25%3F"
        for name, flags, env in (
                ("in the URI", ["--data-uri", f"mongodb://{USER}:{escaped}@{host}"], {}),
                ("beside it", ["--data-uri", f"mongodb://{host}/kiln"],
                 {"KILN_MONGO_USER": USER, "KILN_MONGO_PASSWORD": PASSWORD}),
                ("host, user, password", [], {"KILN_MONGO_HOST": host, "KILN_MONGO_USER": USER,
                                              "KILN_MONGO_PASSWORD": PASSWORD}),
                ("as MongoDB's image has them", [], {"KILN_MONGO_HOST": host, "MONGO_INITDB_ROOT_USERNAME": USER,
                                                     "MONGO_INITDB_ROOT_PASSWORD": PASSWORD})):
            with self.subTest(name):
                server = self.start(*flags, env=env)
                insert(server, "{}")
                self.check_nothing_is_told(server, PASSWORD, escaped)

    def test_wrong_ones(self):
        database = start_database(self, user=USER, password=PASSWORD)
        for env, words in (({"KILN_MONGO_USER": USER, "KILN_MONGO_PASSWORD": "wr0ng-one"}, "authentication failed"),
                           ({}, "may not read and write")):
            server = self.start("--data-uri", f"mongodb://{database.address}", env=env)
            answer = self.post(server)
            self.assert_problem(answer, 503, "MongoDB", words)
            self.assertNotIn("wr0ng-one", answer.json()["detail"])
            self.assertEqual(server.fetch("/readyz").status, 200)
            self.check_nothing_is_told(server, "wr0ng-one")

    def test_bad_connection_strings(self):
        for uri in ("mongodb://u:s3cret/x@host", "mongodb://host/?w=0", "mongodb://host/?authMechanism=s3cret",
                    "mongodb://u:s3cret@"):
            ended = kiln.run("serve", "--port", "0", env={"KILN_DATA_URI": uri})
            self.assertEqual((ended.returncode, ended.stdout), (2, ""), uri)
            self.assertEqual(ended.stderr.count("\n"), 1)
            self.assertNotIn("s3cret", ended.stderr)


@unittest.skipIf(OUTSIDE, "these start and stop a server of their own")
class Outage(MongodbTest):
    def test_absent_at_the_start(self):
        database = start_database(self)
        database.kill()
        server = self.start("--data-uri", database.uri)
        for _ in range(30):
            self.assert_problem(self.post(server), 503, "MongoDB")
        for path in ("/readyz", "/livez"):
            self.assertEqual(server.fetch(path).status, 200)
        self.assertEqual(self.store_log(server), ["records cannot be written"])
        database.start()
        eventually(lambda: self.is_written(server), "writing once it is there", within=3)
        self.assertEqual(self.store_log(server), ["records cannot be written", "records can be written again"])

    def test_gone_and_back(self):
        database = start_database(self)
        server = self.start("--data-uri", database.uri)
        ids = [insert(server, json.dumps({"n": n})) for n in range(10)]
        for _ in range(2):
            database.kill()
            eventually(lambda: not self.is_written(server), "the end to be felt", within=5)
            began = time.monotonic()
            self.assert_problem(self.post(server), 503)
            self.assertLess(time.monotonic() - began, 4 * SLOW)
            self.assertEqual(server.fetch("/readyz").status, 200)
            database.start()
            eventually(lambda: self.is_written(server), "writing to go on", within=3)
        eventually(lambda: server.fetch("/data").status == 200, "reading too", within=3)
        self.assertEqual([item["id"] for item in items(server)][-10:], ids[::-1])
        self.assertLessEqual(len(self.store_log(server)), 8, "once each, of writing and of reading")


class Failing(MongodbTest):
    """On a peer that fails on order."""

    @contextlib.contextmanager
    def peer(self, **more):
        with Peer(**more) as peer:
            yield peer, self.start("--data-uri", peer.uri, "--data-timeout", "20s")

    def texts(self, peer):
        return [document["text"] for document in peer.documents("kiln", "records")]

    def test_an_answer_that_is_lost_does_not_double_the_record(self):
        with self.peer(replica_set="rs") as (peer, server):
            insert(server, '{"n":0}')
            peer.script("insert", Drop(perform=True))
            insert(server, '{"n":1}')
            self.assertEqual(self.texts(peer), ['{"n":0}', '{"n":1}'])
            self.assertEqual(len(peer.seen("insert")), 3, "tried again")

    def test_a_command_that_is_lost_is_sent_again(self):
        with self.peer(replica_set="rs") as (peer, server):
            peer.script("insert", Drop(perform=False))
            insert(server, "{}")
            self.assertEqual(self.texts(peer), ["{}"])

    def test_writes_are_acknowledged_by_a_majority_and_its_journal(self):
        with self.peer(replica_set="rs") as (peer, server):
            insert(server, "{}")
            concern = peer.seen("insert")[0].body["writeConcern"]
            self.assertEqual((concern["w"], concern["j"]), ("majority", True))

    def test_errors_of_a_command_are_told(self):
        with self.peer() as (peer, server):
            insert(server, "{}")
            for failure in (Fail(13, "not authorized"), Fail(91, "shutting down"), WriteConcernFails(64, "timed out"),
                            RefuseDocuments(lambda document: True, 121, "failed validation")):
                peer.always("insert", failure)
                eventually(lambda: self.post(server).status == 503, f"{failure} to be told", within=4)
                peer.always("insert", None)
                eventually(lambda: self.is_written(server), "writing to go on", within=4)

    def test_a_document_is_stored_without_its_doc_where_that_is_refused(self):
        with self.peer() as (peer, server):
            peer.always("insert", RefuseDocuments(lambda document: "doc" in document, 2, "bad key"))
            id = insert(server, '{"a.b":1}')
            self.assertEqual(server.fetch(f"/data/{id}").json()["data"], {"a.b": 1})
            stored, = peer.documents("kiln", "records")
            self.assertNotIn("doc", stored)

    def test_a_stalled_database_is_not_waited_for_for_ever(self):
        with self.peer() as (peer, server):
            insert(server, "{}")
            peer.script("insert", Stall())
            began = time.monotonic()
            self.assert_problem(self.post(server), 503)
            self.assertLess(time.monotonic() - began, 12 * SLOW)
            self.assertEqual(server.fetch("/livez").status, 200)
            eventually(lambda: self.is_written(server), "writing to go on", within=6)

    def test_another_primary_is_waited_for(self):
        with self.peer(replica_set="rs") as (peer, server):
            insert(server, "{}")
            peer.set_primary(False)
            self.assert_problem(self.post(server), 503)
            peer.set_primary(True)
            eventually(lambda: self.is_written(server), "the primary to be found", within=4)

    def test_refused_connections(self):
        with self.peer() as (peer, server):
            insert(server, "{}")
            peer.refuse()
            eventually(lambda: self.post(server).status == 503, "the refusal to be felt", within=5)
            peer.accept()
            eventually(lambda: self.is_written(server), "writing to go on", within=3)


if __name__ == "__main__":
    unittest.main()
