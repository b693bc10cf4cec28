"""What the MongoDB back end makes of a server that fails: through records.cpp, without the HTTP server."""

import os
import pathlib
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

from mongodb_peer import Drop, Fail, Peer, RefuseDocuments, Stall, WriteConcernFails  # noqa: E402

RECORDS = os.environ["KILN_TEST_RECORDS"]
KINDS = (None, "rs")  # a standalone server, for which the driver does not retry writes, and a replica set
SLOW = float(os.environ.get("KILN_TEST_SLOW", "1"))


class Records:
    """The program; called with a command it answers with the words after "ok", or raises what it says otherwise."""

    class Failed(Exception):
        pass

    def __init__(self, uri):
        self.process = subprocess.Popen([RECORDS, uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, *words):
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()
        verdict, _, rest = self.process.stdout.readline().rstrip("\n").partition(" ")
        if verdict != "ok":
            raise self.Failed(rest)
        return rest.split()

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(timeout=30)


class DriverTest(unittest.TestCase):
    def for_each_kind(self, scene):
        for kind in KINDS:
            with self.subTest(replica_set=kind), Peer(replica_set=kind) as peer:
                records = Records(peer.uri)
                try:
                    scene(peer, records)
                finally:
                    status = records.close()
                self.assertEqual(status, 0)

    def stored(self, peer):
        return peer.documents("kiln", "records")

    def fails(self, records, *command):
        with self.assertRaises(Records.Failed) as failed:
            records(*command)
        text = str(failed.exception)
        self.assertTrue(text.startswith("MongoDB: "), text)
        return text

    def test_asks_for_a_majority_and_the_journal(self):
        def scene(peer, records):
            [record] = records("insert", "{}")
            records("remove", record)
            for name in ("insert", "delete"):
                concern = peer.seen(name)[0].body["writeConcern"]
                self.assertEqual((concern["w"], concern["j"], concern["wtimeout"]), ("majority", True, 4000))
            self.assertIs(peer.seen("insert")[0].body["ordered"], False)
        self.for_each_kind(scene)

    def test_stores_once_when_the_answer_is_lost(self):
        def scene(peer, records):
            peer.script("insert", Drop(perform=True))
            written = records("insert", '{"a":1}', '{"a":2}', '{"a":3}')
            self.assertEqual(len(peer.seen("insert")), 2)
            self.assertEqual(sorted(document["_id"] for document in self.stored(peer)), sorted(written))
        self.for_each_kind(scene)

    def test_stores_when_the_question_is_lost(self):
        def scene(peer, records):
            peer.script("insert", Drop(perform=False))
            records("insert", "{}")
            self.assertEqual(len(self.stored(peer)), 1)
        self.for_each_kind(scene)

    def test_goes_on_after_idle_connections_were_cut(self):
        def scene(peer, records):
            [record] = records("insert", "{}")
            for command, answer in ((("find", record), ["yes"]), (("page", "5"), [record]),
                                    (("remove", record), ["yes"]), (("find", record), ["no"])):
                peer.drop_connections()
                self.assertEqual(records(*command), answer)
        self.for_each_kind(scene)

    def test_tells_what_it_removed_when_the_answer_is_lost(self):
        def scene(peer, records):
            ids = records("insert", "{}", "{}")
            peer.script("delete", Drop(perform=True))
            self.assertEqual(records("remove", *ids, ids[0]), ["yes", "yes", "no"])
            self.assertEqual(self.stored(peer), [])
            self.assertEqual(records("remove", *ids), ["no", "no"])
        self.for_each_kind(scene)

    def test_acknowledges_nothing_without_the_write_concern(self):
        def scene(peer, records):
            peer.script("insert", WriteConcernFails(64, "waiting for replication timed out"))
            self.assertIn("waiting for replication timed out", self.fails(records, "insert", "{}", "{}"))
            ids = records("insert", "{}")
            peer.script("delete", WriteConcernFails(64, "waiting for replication timed out"))
            self.fails(records, "remove", *ids)
            # A record that an earlier attempt has stored is not more durable for that.
            peer.script("insert", Drop(perform=True), WriteConcernFails(64, "waiting for replication timed out"))
            self.assertIn("waiting for replication timed out", self.fails(records, "insert", "{}"))
        self.for_each_kind(scene)

    def test_leaves_doc_away_where_it_is_refused(self):
        def scene(peer, records):
            peer.script("insert", RefuseDocuments(lambda document: "$a" in (document.get("doc") or {}), 2))
            records("insert", '{"a":1}', '{"$a":1}', '{"b":1}')
            self.assertEqual([(document["text"], "doc" in document) for document in
                              sorted(self.stored(peer), key=lambda document: document["_id"])],
                             [('{"a":1}', True), ('{"$a":1}', False), ('{"b":1}', True)])
            peer.script("insert", Fail(2, "no such keys"))
            records("insert", '{"c":1}')
            self.assertEqual(["doc" in document for document in self.stored(peer) if document["text"] == '{"c":1}'],
                             [False])
        self.for_each_kind(scene)

    def test_acknowledges_nothing_when_one_document_is_refused(self):
        def scene(peer, records):
            peer.always("insert", RefuseDocuments(lambda document: document["text"] == '{"a":2}', 121, "not valid"))
            self.assertEqual(self.fails(records, "insert", '{"a":1}', '{"a":2}'), "MongoDB: not valid")
        self.for_each_kind(scene)

    def test_says_who_may_not_write(self):
        def scene(peer, records):
            peer.always("insert", Fail(13, 'not authorized on kiln to execute command { insert: "records" }'))
            self.assertEqual(self.fails(records, "insert", "{}"),
                             "MongoDB: the user may not read and write the collection records")
        self.for_each_kind(scene)

    def test_gives_up_in_time_on_a_server_that_stalls(self):
        for name, command in (("insert", ("insert", "{}")), ("find", ("page", "1"))):
            def scene(peer, records, name=name, command=command):
                peer.always(name, Stall())
                begin = time.monotonic()
                self.assertIn(peer.address, self.fails(records, *command))
                self.assertLess(time.monotonic() - begin, 14 * SLOW)
                peer.always(name, None)
                records(*command)
            with self.subTest(command=name):
                self.for_each_kind(scene)

    def test_is_back_within_three_seconds(self):
        def scene(peer, records):
            records("insert", "{}")
            peer.refuse()
            for _ in range(2):
                begin = time.monotonic()
                self.assertIn(peer.address, self.fails(records, "insert", "{}"))
                self.assertLess(time.monotonic() - begin, 4 * SLOW)
            peer.accept()
            begin = time.monotonic()
            records("insert", "{}")
            self.assertLess(time.monotonic() - begin, 3 * SLOW)
        self.for_each_kind(scene)

    def test_bridges_a_short_restart(self):
        def scene(peer, records):
            records("insert", "{}")
            peer.refuse()
            back = threading.Timer(0.5, peer.accept)
            back.start()
            records("insert", "{}")
            back.join()
            self.assertEqual(len(self.stored(peer)), 2)
        self.for_each_kind(scene)

    def test_waits_for_no_primary(self):
        with Peer(replica_set="rs") as peer:
            records = Records(peer.uri)
            records("insert", "{}")
            peer.set_primary(False)
            self.fails(records, "insert", "{}")
            peer.set_primary(True)
            records("insert", "{}")
            self.assertEqual(records.close(), 0)


if __name__ == "__main__":
    unittest.main()
