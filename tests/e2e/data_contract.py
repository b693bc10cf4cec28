"""What /data promises whatever keeps the records. A test class of a database brings start_store()."""

import json
import re
import threading

from kiln import Together, encode_chunks, encode_request

JSON = {"Content-Type": "application/json"}
UUID7 = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
NESTED = b'{"a":' * 63 + b"{}" + b"}" * 63


def insert(server, data):
    """Stores, and returns the id."""
    answer = server.fetch("/data", JSON, method="POST", body=data.encode() if isinstance(data, str) else data)
    if answer.status != 201:
        raise AssertionError(f"not stored: {answer}")
    return answer.json()["id"]


def items(server, limit=50):
    """All records, page by page."""
    found, after = [], ""
    while True:
        page = server.fetch(f"/data?limit={limit}{after}")
        if page.status != 200:
            raise AssertionError(f"no page: {page}")
        page = page.json()
        found += page["items"]
        if page["next"] is None:
            return found
        after = f"&after={page['next']}"


class DataContract:
    DOCUMENTS = [
        b'{"loadtest":"true"}',
        b"{}",
        b'{ "a" :\t1 ,\r\n "b" : [ ] }',
        b'{"a":1,"a":2}',
        b'{"$set":{"a.b":1},"$where":"x","":0,"a.b.c":[],"_id":7}',
        b'{"n":[0,-0.0,1e5,9223372036854775807,-9223372036854775808,18446744073709551615]}',
        b'{"huge":[123456789012345678901234567890,1e400,-1e-400,0.1000000000000000055511151231257827]}',
        b'{"nul":"a\\u0000b","\\u0000":1}',
        b'{"s":"\\"\\\\\\/\\b\\f\\n\\r\\t\\ud83d\\ude00"}',
        '{"é":"€ 😀"}'.encode(),
        NESTED,
        b'{"x":"' + b"x" * (64 * 1024 - 8) + b'"}',
    ]

    def test_bytes_come_back(self):
        server = self.start_store()
        for document in self.DOCUMENTS:
            with self.subTest(document[:60]):
                stored = server.fetch("/data", JSON, method="POST", body=b" \r\n\t" * (len(document) < 1000) + document)
                self.assertEqual(stored.status, 201, stored)
                id = stored.json()["id"]
                self.assertRegex(id, f"^{UUID7}$")
                self.assertEqual(stored.header("Location"), f"/data/{id}")
                self.assertEqual(stored.header("Cache-Control"), "no-store")
                self.assertEqual(stored.header("Content-Type"), "application/json")
                shape = rb'\{"id":"(.{36})","created_at":"(\d{4}-\d\d-\d\dT[0-9:]{8}\.\d{3}Z)","data":(.*)\}\n'
                found = re.fullmatch(shape, stored.body, re.DOTALL)
                self.assertEqual(found[3], document)
                again = server.fetch(stored.header("Location"))
                self.assertEqual((again.status, again.body), (200, stored.body))
                page = server.fetch("/data?limit=1").body
                self.assertIn(b'{"items":[' + stored.body[:-1] + b"]", page)

    REFUSED = [
        (b"", 400, "byte 0"),
        (b'{"a":}', 400, "byte 5"),
        (b'{"a":1,}', 400, "byte 7"),
        (b"{'a':1}", 400, "byte 1"),
        (b'{"a":1} x', 400, "byte 8"),
        (b'{"a":01}', 400, "byte 5"),
        (b'{"a":NaN}', 400, "byte 5"),
        (b'{"a":"\xff"}', 400, "byte 6"),
        (b'{"a":"\xed\xa0\x80"}', 400, "byte 6"),
        (b'{"a":"\\ud800"}', 400, "byte 5"),
        (b'{"a":"\n"}', 400, "byte 6"),
        (b'{"a":\x00}', 400, "byte 5"),
        (b"\xef\xbb\xbf{}", 400, "byte order mark"),
        (b'{"a":' + NESTED + b"}", 400, "deeper than 64"),
        (b'{"a":' * 12_000, 400, "deeper than 64"),
        (b"a=b", 400, "byte 0"),
        (b"[]", 422, "object"),
        (b'"text"', 422, "object"),
        (b"1e999", 422, "object"),
        (b"null", 422, "object"),
    ]

    def test_bad_bodies(self):
        server = self.start_store()
        for body, status, words in self.REFUSED:
            with self.subTest(body[:60]):
                self.assert_problem(server.fetch("/data", JSON, method="POST", body=body), status, words)
        self.assertEqual(items(server), [])

    def test_content_type_does_not_matter(self):
        server = self.start_store()
        for fields in ({}, {"Content-Type": "application/x-www-form-urlencoded"}, {"Content-Type": "text/plain"}):
            self.assertEqual(server.fetch("/data", fields, method="POST", body=b'{"loadtest":"true"}').status, 201)

    def test_size(self):
        server = self.start_store("--data-max", "1KiB")
        for size, status in ((1023, 201), (1024, 201), (1025, 413)):
            body = b'{"x":"' + b"x" * (size - 8) + b'"}'
            self.assertEqual(server.fetch("/data", JSON, method="POST", body=body).status, status, size)
            with server.connect() as client:
                client.send(b"POST /data HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                            + encode_chunks(body, 500))
                self.assertEqual(client.response().status, status, f"{size} in chunks")
        for head in ("Content-Length: 1025", "Content-Length: 1025\r\nExpect: 100-continue"):
            with server.connect() as client:
                client.send(f"POST /data HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n".encode())
                self.assert_problem(client.response(), 413)  # before a byte of it
        self.assertEqual(server.fetch("/echo", method="POST", body=b"x" * 2000).status, 200, "a limit of /data alone")

    def test_methods(self):
        server = self.start_store()
        id = insert(server, "{}")
        for path, methods in (("/data", {"GET", "HEAD", "POST", "OPTIONS"}),
                              (f"/data/{id}", {"GET", "HEAD", "DELETE", "OPTIONS"})):
            answer = server.fetch(path, method="OPTIONS")
            self.assertEqual(set(answer.header("Allow").split(", ")), methods)
            self.assertEqual(server.fetch(path, method="PUT", body=b"{}").status, 405)
            self.assertEqual(server.fetch(path, method="HEAD").status, 200)
        self.assertEqual(server.fetch("/data", method="DELETE").status, 405)
        self.assertEqual(server.fetch(f"/data/{id}", method="POST", body=b"{}").status, 405)
        self.assertEqual(len(items(server)), 1)

    def test_ids(self):
        server = self.start_store()
        id = insert(server, '{"a":1}')
        self.assertEqual(server.fetch(f"/data/{id.upper()}").status, 200)
        for other in ("1", "x" * 36, id[:-1], id + "0", "../data", "%00", "..%2f..", id.replace("-7", "-4", 1),
                      "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"):
            with self.subTest(other):
                self.assertEqual(server.fetch(f"/data/{other}").status, 404)
                self.assertEqual(server.fetch(f"/data/{other}", method="DELETE").status, 404)
        removed = server.fetch(f"/data/{id}", method="DELETE")
        self.assertEqual((removed.status, removed.body), (204, b""))
        self.assertEqual(server.fetch(f"/data/{id}", method="DELETE").status, 404)
        self.assertEqual(server.fetch(f"/data/{id}").status, 404)
        self.assertEqual(items(server), [])

    def test_pages(self):
        server = self.start_store()
        self.assertEqual(server.fetch("/data").json(), {"items": [], "next": None})
        ids = [insert(server, json.dumps({"n": n})) for n in range(120)]
        for limit in (1, 7, 50, 119, 120, 121, 500):
            found = items(server, limit)
            self.assertEqual([item["id"] for item in found], ids[::-1], limit)
            self.assertEqual([item["data"]["n"] for item in found], list(range(119, -1, -1)))
        self.assertEqual(len(server.fetch("/data").json()["items"]), 50)
        page = server.fetch("/data?limit=120").json()
        self.assertIsNone(page["next"])
        # An id that was removed, or never was, is a place all the same.
        server.fetch(f"/data/{ids[60]}", method="DELETE")
        self.assertEqual(server.fetch(f"/data?limit=1&after={ids[60]}").json()["items"][0]["id"], ids[59])

    def test_bad_pages(self):
        server = self.start_store()
        for query in ("limit=0", "limit=501", "limit=-1", "limit=x", "limit=", "limit=1.5", "limit=01x",
                      "limit=99999999999999999999", "after=1", "after=", "limit=1&limit=2", "before=1", "%zz"):
            with self.subTest(query):
                self.assertEqual(server.fetch(f"/data?{query}").status, 400)

    def test_large_pages_end_early(self):
        server = self.start_store()
        for _ in range(40):
            insert(server, json.dumps({"x": "x" * 60_000}))
        page = server.fetch("/data?limit=500")
        self.assertLess(len(page.body), 400 * 1024)
        self.assertIsNotNone(page.json()["next"])
        self.assertEqual(len(items(server, 500)), 40)

    def test_pages_are_stable_while_others_insert(self):
        server = self.start_store()
        before = [insert(server, json.dumps({"n": n})) for n in range(100)]
        stop = threading.Event()
        more = []

        def go_on():
            for _ in range(150):  # a server that reads all for each page would never come to the end of more
                if stop.is_set():
                    return
                more.append(insert(server, '{"more":1}'))

        with Together(go_on, go_on):
            try:
                for limit in (3, 10):
                    found = [item["id"] for item in items(server, limit)]
                    self.assertEqual(len(set(found)), len(found), "none twice")
                    self.assertEqual([id for id in found if id in set(before)], before[::-1], "none missing")
            finally:
                stop.set()
        self.assertEqual(len(items(server)), 100 + len(more))

    def test_many_at_once(self):
        server = self.start_store()
        acknowledged = []

        def run():
            with server.connect() as client:
                for n in range(50):
                    client.send(encode_request("POST", "/data", JSON, json.dumps({"n": n}).encode()))
                    answer = client.response()
                    self.assertEqual(answer.status, 201)
                    acknowledged.append(answer.json()["id"])

        with Together(*[run] * 16):
            pass
        self.assertEqual(len(set(acknowledged)), 800)
        self.assertEqual({item["id"] for item in items(server, 500)}, set(acknowledged))

    def test_pipelined_requests_are_answered_in_order(self):
        server = self.start_store()
        with server.connect() as client:
            client.send(b"".join(encode_request("POST", "/data", JSON, json.dumps({"n": n}).encode())
                                 for n in range(30)) + encode_request("GET", "/data?limit=30"))
            stored = [client.response().json() for _ in range(30)]
            self.assertEqual([record["data"]["n"] for record in stored], list(range(30)))
            self.assertEqual(client.response().json()["items"], stored[::-1])

    def test_metrics(self):
        server = self.start_store()
        id = insert(server, "{}")
        server.fetch(f"/data/{id}")
        server.fetch("/data/017f22e2-79b0-7cc3-98c4-dc0c0c07398f")
        server.fetch("/data")
        server.fetch(f"/data/{id}", method="DELETE")
        metrics = server.metrics()
        count = lambda **labels: metrics.one("kiln_store_operations_total", **labels)
        self.assertEqual(count(operation="insert", outcome="done"), 1)
        self.assertEqual(count(operation="find", outcome="done"), 1)
        self.assertEqual(count(operation="find", outcome="not_found"), 1)
        self.assertEqual(count(operation="list", outcome="done"), 1)
        self.assertEqual(count(operation="remove", outcome="done"), 1)
        self.assertEqual(metrics.one("kiln_store_operation_duration_seconds_count", operation="insert"), 1)
        self.assertEqual(metrics.one("kiln_store_batch_size_count", kind="changes"), 2)
        self.assertEqual(metrics.one("kiln_store_up"), 1)
        self.assertEqual(metrics.one("kiln_store_queue_length"), 0)
