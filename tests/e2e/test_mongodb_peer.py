"""The scripted MongoDB peer against a client of a few lines: what the tests of the MongoDB back end rely on."""

import math
import socket
import struct
import threading
import time
import unittest

import bson
import mongodb_peer
from mongodb_peer import Answer, Drop, Fail, Peer, RefuseDocuments, Reply, Stall, WriteConcernFails

DATABASE = "kiln"


class Client:
    """Sends commands as a driver would, one at a time."""

    def __init__(self, peer, timeout=10):
        self.socket = socket.create_connection(("127.0.0.1", peer.port), timeout=timeout)
        self.number = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, opcode, payload):
        self.number += 1
        header = mongodb_peer.HEADER.pack(mongodb_peer.HEADER.size + len(payload), self.number, 0, opcode)
        self.socket.sendall(header + payload)

    def receive(self, opcode, skip):
        """The one document of the answer, which begins after `skip` bytes."""
        length, _, in_answer_to, got = mongodb_peer.HEADER.unpack(mongodb_peer.receive_exactly(self.socket, 16))
        if (in_answer_to, got) != (self.number, opcode):
            raise AssertionError(f"an answer to {in_answer_to} with opcode {got}")
        return bson.decode(mongodb_peer.receive_exactly(self.socket, length - 16)[skip:])

    def command(self, **fields):
        self.send(mongodb_peer.OP_MSG, struct.pack("<IB", 0, 0) + bson.encode(fields | {"$db": DATABASE}))
        return self.receive(mongodb_peer.OP_MSG, 5)

    def legacy_hello(self):
        query = struct.pack("<I", 4) + b"admin.$cmd\0" + struct.pack("<ii", 0, -1) + bson.encode({"isMaster": 1})
        self.send(mongodb_peer.OP_QUERY, query)
        return self.receive(mongodb_peer.OP_REPLY, 20)

    def insert(self, *ids, **fields):
        return self.command(insert="records", documents=[{"_id": name} for name in ids], **fields)

    def find(self, condition=(), **fields):
        reply = self.command(find="records", filter=bson.Document(condition), **fields)
        return [document["_id"] for document in reply["cursor"]["firstBatch"]]


def ids(peer):
    return [document["_id"] for document in peer.documents(DATABASE, "records")]


class Bson(unittest.TestCase):
    VALUES = {
        "none": None, "true": True, "false": False, "empty string": "", "string with NUL": "a\0b",
        "unicode": "\U0001f525é", "long string": "x" * 65536, "zero": 0, "int32 min": -2**31,
        "int32 max": 2**31 - 1, "int64 by size": 2**31, "int64 min": -2**63,
        "int64 max": 2**63 - 1, "int64 by type": bson.Int64(1), "double": 1.5, "minus zero": -0.0, "infinity": math.inf,
        "minus infinity": -math.inf, "nan": math.nan, "denormal": 5e-324, "empty document": {},
        "document": {"a": {"b": [1, "two", None]}}, "empty array": [], "nested arrays": [[[]]], "bytes": b"\0\xff",
        "binary": bson.Binary(b"0123456789abcdef", 4), "object id": bson.ObjectId(b"0123456789ab"),
        "date": bson.DateTime(-1), "timestamp": bson.Timestamp(2**64 - 1), "decimal": bson.Decimal128(bytes(range(16))),
        "regex": bson.Regex("^a", "i"), "dollar key": {"$set": 1}, "dotted key": {"a.b": 1}, "empty key": {"": 1},
        "repeated key": bson.Document([("a", 1), ("a", 2)]),
    }

    def test_values_survive_a_round_trip(self):
        for name, value in self.VALUES.items():
            with self.subTest(name):
                raw = bson.encode({"v": value})
                self.assertEqual(bson.encode(bson.decode(raw)), raw)
                if value == value and not isinstance(value, bytes):
                    self.assertEqual(bson.decode(raw), {"v": value})

    def test_bytes_are_those_of_the_specification(self):
        rows = (({"hello": "world"}, b"\x16\0\0\0\x02hello\0\x06\0\0\0world\0\0"),
                ({"BSON": ["awesome", 5.05, 1986]},
                 b"\x31\0\0\0\x04BSON\0\x26\0\0\0\x020\0\x08\0\0\0awesome\0\x011\0\x33\x33\x33\x33\x33\x33\x14\x40"
                 b"\x102\0\xc2\x07\0\0\0\0"))
        for document, raw in rows:
            self.assertEqual(bson.encode(document), raw)
            self.assertEqual(bson.decode(raw), document)

    def test_int64_and_repeated_keys_stay_apart(self):
        decoded = bson.decode(bson.encode(bson.Document([("a", bson.Int64(1)), ("a", 2)])))
        self.assertIsInstance(decoded["a"], bson.Int64)
        self.assertNotIsInstance(decoded.pairs[1][1], bson.Int64)
        self.assertEqual(decoded.keys(), ["a", "a"])

    def test_every_cut_is_refused(self):
        raw = bson.encode(bson.Document((str(at), value) for at, value in enumerate(self.VALUES.values())
                                        if value != "x" * 65536))
        for length in range(len(raw)):
            with self.assertRaises(bson.Malformed, msg=f"{length} of {len(raw)} bytes"):
                bson.decode(raw[:length])

    def test_malformed_documents_are_refused(self):
        rows = {"bytes after the end": bson.encode({}) + b"\0", "unknown type": b"\x08\0\0\0\x7fa\0\0",
                "size too small": b"\x04\0\0\0\0", "bool of 2": b"\x09\0\0\0\x08a\0\x02\0",
                "no UTF-8": b"\x0e\0\0\0\x02a\0\x02\0\0\0\xff\0\0",
                "string without NUL": b"\x0e\0\0\0\x02a\0\x01\0\0\0xy\0",
                "negative string": b"\x0d\0\0\0\x02a\0\xff\xff\xff\xff\0\0"}
        for name, raw in rows.items():
            with self.subTest(name), self.assertRaises(bson.Malformed):
                bson.decode(raw)

    def test_depth_is_bounded(self):
        def nested(levels):
            raw = bson.encode({})
            for _ in range(levels):
                raw = struct.pack("<i", len(raw) + 8) + b"\x03a\0" + raw + b"\0"
            return raw

        self.assertEqual(bson.encode(bson.decode(nested(bson.DEPTH_MAX))), nested(bson.DEPTH_MAX))
        with self.assertRaises(bson.Malformed):
            bson.decode(nested(bson.DEPTH_MAX + 1))

    def test_a_name_with_nul_is_not_encoded(self):
        with self.assertRaises(bson.Malformed):
            bson.encode({"a\0b": 1})


class Messages(unittest.TestCase):
    def test_hello_says_what_it_is(self):
        with Peer() as alone, Client(alone) as client:
            for reply in (client.legacy_hello(), client.command(hello=1), client.command(isMaster=1)):
                self.assertNotIn("setName", reply)
                self.assertTrue(reply.get("ismaster") or reply.get("isWritablePrimary"))
            self.assertEqual(len(alone.seen("hello")), 3)
        with Peer(replica_set="rs") as member, Client(member) as client:
            reply = client.command(hello=1)
            self.assertEqual((reply["setName"], reply["hosts"], reply["isWritablePrimary"]),
                             ("rs", [member.address], True))
            member.set_primary(False)
            reply = client.command(hello=1)
            self.assertEqual((reply["isWritablePrimary"], reply["secondary"]), (False, True))
            self.assertEqual(client.insert("a")["code"], 10107)
            self.assertEqual(client.command(find="records", filter={})["code"], 13435)

    def test_sections_checksum_and_unanswered_messages(self):
        with Peer() as peer, Client(peer) as client:
            documents = b"".join(bson.encode({"_id": name}) for name in "abc")
            sequence = b"\1" + struct.pack("<i", len(documents) + 14) + b"documents\0" + documents
            body = b"\0" + bson.encode({"insert": "records", "$db": DATABASE})
            checksum_present, more_to_come = 1, 2
            client.send(mongodb_peer.OP_MSG, struct.pack("<I", more_to_come) + body + sequence)
            client.send(mongodb_peer.OP_MSG, struct.pack("<I", checksum_present) + sequence + body + bytes(4))
            reply = client.receive(mongodb_peer.OP_MSG, 5)
            self.assertEqual([error["code"] for error in reply["writeErrors"]], [11000])
            self.assertEqual(ids(peer), ["a", "b", "c"])

    def test_nonsense_ends_the_connection_and_no_other(self):
        with Peer() as peer, Client(peer) as other:
            no_command = b"\0\0\0\0kiln.records\0" + bytes(8) + bson.encode({})
            for opcode, payload in ((2012, b"\0"), (mongodb_peer.OP_MSG, b"\0\0\0\0\7"),
                                    (mongodb_peer.OP_MSG, bytes(4)), (mongodb_peer.OP_QUERY, no_command)):
                with self.subTest(payload), Client(peer) as client:
                    client.send(opcode, payload)
                    self.assertEqual(client.socket.recv(1), b"")
            self.assertEqual(other.command(ping=1)["ok"], 1.0)

    def test_commands_are_recorded_in_order(self):
        with Peer() as peer, Client(peer) as client:
            client.insert("a", writeConcern={"w": "majority", "j": True})
            client.command(ping=1)
            self.assertEqual([command.name for command in peer.seen()], ["insert", "ping"])
            self.assertEqual(peer.seen("insert")[0].body["writeConcern"], {"w": "majority", "j": True})
            self.assertEqual(client.command(nonsense=1)["code"], 59)
            self.assertEqual(client.command(getMore=bson.Int64(7), collection="records")["code"], 43)
            self.assertEqual(client.command(endSessions=[])["ok"], 1.0)


class Documents(unittest.TestCase):
    def test_duplicates_are_refused_one_by_one(self):
        with Peer() as peer, Client(peer) as client:
            self.assertEqual(client.insert("b")["n"], 1)
            ordered = client.insert("a", "b", "c")
            self.assertEqual((ordered["n"], ordered["writeErrors"][0]["index"]), (1, 1))
            unordered = client.insert("b", "c", "a", "d", ordered=False)
            self.assertEqual((unordered["n"], [error["index"] for error in unordered["writeErrors"]]), (2, [0, 2]))
            self.assertEqual(ids(peer), ["b", "a", "c", "d"])

    def test_finds_filter_sort_and_limit(self):
        with Peer() as peer, Client(peer) as client:
            client.insert(*"cadbe")
            rows = (({}, {}, "cadbe"), ({"_id": "d"}, {}, "d"), ({"_id": {"$in": ["e", "x", "a"]}}, {}, "ae"),
                    ({"_id": {"$lt": "d"}}, {"sort": {"_id": -1}, "limit": 2}, "cb"),
                    ({"_id": {"$gte": "b", "$ne": "c"}}, {"sort": {"_id": 1}}, "bde"),
                    ({"_id": {"$gt": 1}}, {}, ""), ({}, {"sort": {"_id": 1}, "skip": 3}, "de"),
                    ({}, {"sort": {"_id": 1}, "limit": -1}, "a"))
            for condition, fields, expected in rows:
                with self.subTest(condition=condition, fields=fields):
                    self.assertEqual(client.find(condition, **fields), list(expected))
            self.assertEqual(client.command(find="records", filter={"_id": {"$regex": "a"}})["code"], 2)
            self.assertEqual(client.command(find="records", filter={"$or": []})["code"], 2)

    def test_projections_name_what_is_wanted(self):
        with Peer() as peer, Client(peer) as client:
            client.command(insert="records", documents=[{"_id": 1, "data": "d", "doc": {}}])

            def first(projection):
                return client.command(find="records", filter={}, projection=projection)["cursor"]["firstBatch"][0]

            self.assertEqual(first({"data": 1}), {"_id": 1, "data": "d"})
            self.assertEqual(first({"_id": 0, "data": True}), {"data": "d"})
            self.assertEqual(client.command(find="records", filter={}, projection={"doc": 0})["code"], 2)

    def test_deletes_and_indexes(self):
        with Peer() as peer, Client(peer) as client:
            client.insert("a", "b", "c")
            self.assertEqual(client.command(delete="records", deletes=[{"q": {"_id": "a"}, "limit": 1}])["n"], 1)
            self.assertEqual(client.command(delete="records", deletes=[{"q": {"_id": "a"}, "limit": 1}])["n"], 0)
            self.assertEqual(client.command(delete="records", deletes=[{"q": {}, "limit": 0}])["n"], 2)
            self.assertEqual(ids(peer), [])
            index = {"key": {"at": -1}, "name": "at"}
            self.assertEqual(client.command(createIndexes="records", indexes=[index])["numIndexesAfter"], 2)
            self.assertEqual(client.command(createIndexes="records", indexes=[index])["numIndexesBefore"], 2)

    def test_documents_come_back_byte_for_byte(self):
        with Peer() as peer, Client(peer) as client:
            document = bson.Document([("_id", 1), ("doc", bson.Document([("a", -0.0), ("a", "x\0y"), ("$b.c", [[]])]))])
            client.command(insert="records", documents=[document])
            reply = client.command(find="records", filter={"_id": 1})
            self.assertEqual(bson.encode(reply["cursor"]["firstBatch"][0]), bson.encode(document))


class Scripts(unittest.TestCase):
    def test_a_numbered_write_is_performed_once_only_by_a_replica_set(self):
        numbered = {"lsid": {"id": bson.Binary(bytes(16), 4)}, "txnNumber": bson.Int64(1)}
        for replica_set, again in ((None, "writeErrors"), ("rs", "n")):
            with self.subTest(replica_set), Peer(replica_set) as peer:
                peer.script("insert", Drop(perform=True))
                with Client(peer) as client, self.assertRaises(mongodb_peer.Ended):
                    client.insert("a", **numbered)
                with Client(peer) as client:
                    reply = client.insert("a", **numbered)
                self.assertIn(again, reply)
                self.assertEqual("writeErrors" in reply, replica_set is None)
                self.assertEqual(ids(peer), ["a"])
                self.assertEqual(len(peer.seen("insert")), 2)

    def test_a_drop_before_performing_stores_nothing(self):
        with Peer() as peer:
            peer.script("insert", Answer(), Drop(perform=False))
            with Client(peer) as client:
                self.assertEqual(client.insert("a")["n"], 1)
                with self.assertRaises(mongodb_peer.Ended):
                    client.insert("b")
            self.assertEqual(ids(peer), ["a"])

    def test_errors_come_as_ordered(self):
        with Peer() as peer, Client(peer) as client:
            peer.script("insert", Fail(10107, "stepping down", ("RetryableWriteError",)), Fail(13),
                        Fail(91, perform=True), WriteConcernFails(64, "waiting timed out"), Reply({"ok": 1.0, "n": 7}))
            first = client.insert("a")
            self.assertEqual((first["ok"], first["code"], first["codeName"], first["errmsg"], first["errorLabels"]),
                             (0.0, 10107, "NotWritablePrimary", "stepping down", ["RetryableWriteError"]))
            second = client.insert("b")
            self.assertEqual((second["code"], second["codeName"], "errorLabels" in second), (13, "Unauthorized", False))
            self.assertEqual(client.insert("c")["code"], 91)
            fourth = client.insert("d")
            self.assertEqual((fourth["ok"], fourth["n"], fourth["writeConcernError"]["code"]), (1.0, 1, 64))
            self.assertEqual(client.insert("e")["n"], 7)
            self.assertEqual(client.insert("f")["n"], 1)
            self.assertEqual(ids(peer), ["c", "d", "f"])

    def test_documents_are_refused_by_what_they_hold(self):
        with Peer() as peer, Client(peer) as client:
            peer.always("insert", RefuseDocuments(lambda document: "doc" in document, 2))
            reply = client.command(insert="records", documents=[{"_id": 1}, {"_id": 2, "doc": 0}, {"_id": 3}],
                                   ordered=False)
            self.assertEqual((reply["n"], reply["writeErrors"]), (2, [{"index": 1, "code": 2, "errmsg": "scripted"}]))
            peer.always("insert", None)
            self.assertEqual(client.insert(4)["n"], 1)
            self.assertEqual(ids(peer), [1, 3, 4])

    def test_an_action_may_depend_on_the_command(self):
        with Peer() as peer, Client(peer) as client:
            peer.always("find", lambda body: Fail(50) if "maxTimeMS" in body else Answer())
            self.assertEqual(client.command(find="records", filter={}, maxTimeMS=1)["code"], 50)
            self.assertEqual(client.find(), [])

    def test_a_stall_lasts_until_it_is_told(self):
        with Peer() as peer, Client(peer) as client, Client(peer) as other:
            told = threading.Event()
            peer.script("insert", Stall(until=told, then=Fail(11600)))
            client.send(mongodb_peer.OP_MSG, struct.pack("<IB", 0, 0) + bson.encode(
                {"insert": "records", "documents": [{"_id": "a"}], "$db": DATABASE}))
            # The other connection is served meanwhile.
            while not peer.seen("insert"):
                self.assertEqual(other.command(ping=1)["ok"], 1.0)
            client.socket.setblocking(False)
            with self.assertRaises(BlockingIOError):
                client.socket.recv(1)
            client.socket.settimeout(10)
            told.set()
            self.assertEqual(client.receive(mongodb_peer.OP_MSG, 5)["code"], 11600)

    def test_a_stall_may_end_by_itself(self):
        with Peer() as peer, Client(peer) as client:
            peer.script("ping", Stall(seconds=0.1))
            begun = time.monotonic()
            self.assertEqual(client.command(ping=1)["ok"], 1.0)
            self.assertGreaterEqual(time.monotonic() - begun, 0.1)

    def test_a_stall_does_not_hold_up_the_end(self):
        with Peer() as peer, Client(peer) as client:
            peer.script("ping", Stall())
            client.send(mongodb_peer.OP_MSG, struct.pack("<IB", 0, 0) + bson.encode({"ping": 1, "$db": DATABASE}))
            while not peer.seen("ping"):
                time.sleep(0.001)
            begun = time.monotonic()
            peer.close()
            self.assertLess(time.monotonic() - begun, 5)

    def test_it_refuses_and_comes_back_on_the_same_port(self):
        with Peer() as peer:
            with Client(peer) as client:
                client.insert("a")
                for _ in range(3):
                    peer.refuse()
                    self.assertEqual(client.socket.recv(1), b"")
                    with self.assertRaises(ConnectionRefusedError):
                        Client(peer)
                    peer.accept()
                    with Client(peer) as again:
                        self.assertEqual(again.find(), ["a"])
            peer.refuse()

    def test_its_own_faults_are_not_hidden(self):
        with self.assertRaisesRegex(AssertionError, "the scripted peer failed"), Peer() as peer, Client(peer) as client:
            peer.script("ping", "no action")
            with self.assertRaises(mongodb_peer.Ended):
                client.command(ping=1)


if __name__ == "__main__":
    unittest.main()
