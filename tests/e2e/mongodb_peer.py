"""A scripted peer that speaks MongoDB's wire protocol: it accepts a driver, answers from memory, and fails on order.

It is no database and says nothing about how a real server behaves; it is for what a real server cannot be asked to do
on time, such as losing the connection between storing a record and saying so.

    with Peer(replica_set="rs") as peer:
        peer.script("insert", Drop(perform=True))       # the first insert; later ones are answered as usual
        ...                                             # a client writes to peer.uri
        inserts = peer.seen("insert")                   # two: the driver tried again
        peer.documents("kiln", "records")               # one document

A message (OP_MSG; OP_QUERY and OP_REPLY for a driver's first hello):

    int32 length | int32 id | int32 in answer to | int32 opcode | uint32 flags | sections...   [| uint32 checksum]
    section: 0 | document                                    the command
             1 | int32 length | cstring name | documents     one of its arrays, apart
"""

import collections
import contextlib
import dataclasses
import itertools
import operator
import socket
import struct
import threading
import time

import bson

OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
CHECKSUM_PRESENT, MORE_TO_COME = 1 << 0, 1 << 1
AWAIT_CAPABLE = 1 << 3
HEADER = struct.Struct("<iiii")

MESSAGE_BYTES_MAX = 48_000_000
CONNECTIONS_MAX = 64
SEEN_MAX = 100_000
STALL_SECONDS_MAX = 300

BAD_VALUE, CURSOR_NOT_FOUND, COMMAND_NOT_FOUND = 2, 43, 59
NOT_WRITABLE_PRIMARY, DUPLICATE_KEY, NOT_PRIMARY_NO_SECONDARY_OK = 10107, 11000, 13435
CODE_NAMES = {2: "BadValue", 13: "Unauthorized", 18: "AuthenticationFailed", 43: "CursorNotFound",
              59: "CommandNotFound", 64: "WriteConcernFailed", 91: "ShutdownInProgress",
              100: "UnsatisfiableWriteConcern", 10107: "NotWritablePrimary", 11000: "DuplicateKey",
              11600: "InterruptedAtShutdown", 13435: "NotPrimaryNoSecondaryOk"}


# --- What a script may ask for ----------------------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Answer:
    """As usual. For a script in which a later command fails."""


@dataclasses.dataclass(frozen=True)
class Reply:
    """This document, and nothing is performed."""
    document: object


@dataclasses.dataclass(frozen=True)
class Fail:
    """The command as a whole is refused and not performed, unless `perform`."""
    code: int
    message: str = "scripted"
    labels: tuple = ()
    perform: bool = False


@dataclasses.dataclass(frozen=True)
class RefuseDocuments:
    """An insert's documents of which `which(document)` is true become write errors; the others are performed."""
    which: object
    code: int
    message: str = "scripted"


@dataclasses.dataclass(frozen=True)
class WriteConcernFails:
    """The write is performed, and its answer says that the write concern was not met."""
    code: int
    message: str = "scripted"
    labels: tuple = ()


@dataclasses.dataclass(frozen=True)
class Drop:
    """The connection ends instead of an answer; with `perform` after the command was performed."""
    perform: bool


@dataclasses.dataclass(frozen=True)
class Stall:
    """Nothing happens until `until`, an Event, is set, or for `seconds`; then comes `then`. A peer that ends, or
    refuses, ends the wait as well, and the connection with it."""
    until: threading.Event = None
    seconds: float = STALL_SECONDS_MAX
    then: object = Answer()


@dataclasses.dataclass(frozen=True)
class Seen:
    """A command as it came, recorded before it is acted upon."""
    name: str
    body: bson.Document
    connection: int


class Refused(Exception):
    """A command that is answered with an error."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Ended(Exception):
    """The connection is over."""


# --- Peer -------------------------------------------------------------------------------------------------------------

class Peer:
    """Listens from the start until the end of the `with` block, on one port of 127.0.0.1 all the time."""

    def __init__(self, replica_set=None):
        """A standalone server, or, by its name, a replica set's primary and only member: only there do drivers retry
        writes."""
        self.replica_set = replica_set
        self.store = Store()
        self.lock = threading.Lock()
        self.is_primary = True
        self.connection_ids = itertools.count(1)
        self.connections = {}
        self.threads = set()
        self.scripts = collections.defaultdict(collections.deque)
        self.standing = {}
        self.recorded = []
        self.faults = []
        self.listener = bound_socket(0)
        self.port = self.listener.getsockname()[1]
        self.accept()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.close()
        # A fault of this file must not look like one of the program under test, but it must not hide the test's own.
        if kind is None and self.faults:
            raise AssertionError("the scripted peer failed") from self.faults[0]

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def uri(self):
        return f"mongodb://{self.address}/" + (f"?replicaSet={self.replica_set}" if self.replica_set else "")

    # Orders

    def script(self, name, *actions):
        """The next commands of that name get these, one each; then all is as usual. "hello" stands for its old names
        too. An action is one of the classes above, or a function from the command's body to one."""
        with self.lock:
            self.scripts[name].extend(actions)

    def always(self, name, action):
        """Every command of that name for which nothing is scripted; None ends that."""
        with self.lock:
            self.standing[name] = action

    def set_primary(self, is_primary):
        """Without being the primary, hello says so and writes are refused."""
        with self.lock:
            self.is_primary = is_primary

    def refuse(self):
        """Ends all connections, and refuses new ones until accept()."""
        with self.lock:
            # Its thread closes it. Bound without listening, the next one keeps the port ours, and the kernel refuses
            # whoever connects.
            end(self.listener)
            self.listener = bound_socket(self.port)
        self.drop_connections()

    def accept(self):
        """Takes connections, at first and after refuse()."""
        self.listener.listen(CONNECTIONS_MAX)
        self.start(self.accept_loop, self.listener)

    def drop_connections(self):
        with self.lock:
            connections = list(self.connections.values())
        for connection in connections:
            end(connection)

    def close(self):
        with self.lock:
            listener, self.listener = self.listener, None
        if listener is None:
            return
        end(listener)
        self.drop_connections()
        deadline = time.monotonic() + 10
        while threads := self.live_threads():
            threads[0].join(max(0, deadline - time.monotonic()))
            if time.monotonic() > deadline:
                raise AssertionError(f"these threads of the scripted peer do not end: {threads}")
        # After refuse() no thread has done so.
        listener.close()

    # What came

    def seen(self, name=None):
        """All commands in their order, or those of one name."""
        with self.lock:
            return [command for command in self.recorded if name in (None, command.name)]

    def documents(self, database, collection):
        with self.lock:
            return self.store.documents(f"{database}.{collection}")

    # Threads

    def start(self, target, *arguments):
        thread = threading.Thread(target=self.guarded, args=(target, *arguments), daemon=True)
        with self.lock:
            self.threads.add(thread)
            # Under the lock: a thread that is not started cannot be joined.
            thread.start()

    def live_threads(self):
        with self.lock:
            return [thread for thread in self.threads if thread is not threading.current_thread()]

    def guarded(self, target, *arguments):
        try:
            target(*arguments)
        except BaseException as fault:
            with self.lock:
                self.faults.append(fault)
        finally:
            with self.lock:
                self.threads.discard(threading.current_thread())

    def accept_loop(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                listener.close()
                return
            with self.lock:
                # It may have been accepted just before refuse() or close() looked at the connections.
                admitted = self.listener is listener and len(self.connections) < CONNECTIONS_MAX
                if admitted:
                    number = next(self.connection_ids)
                    self.connections[number] = connection
            if admitted:
                self.start(self.serve, number, connection)
            else:
                connection.close()

    def serve(self, number, connection):
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                self.serve_one(number, connection)
        except (Ended, OSError, bson.Malformed):
            pass
        finally:
            with self.lock:
                del self.connections[number]
            connection.close()

    def serve_one(self, number, connection):
        message, opcode, payload = receive(connection)
        body, wants_reply = parse(opcode, payload)
        name = body.keys()[0] if body.pairs else ""
        if name.lower() in ("hello", "ismaster"):
            name = "hello"
        with self.lock:
            if len(self.recorded) == SEEN_MAX:
                raise AssertionError(f"more than {SEEN_MAX} commands")
            self.recorded.append(Seen(name, body, number))
            scripted = self.scripts[name]
            action = scripted.popleft() if scripted else self.standing.get(name)
        if callable(action):
            action = action(body)
        reply = self.act(action or Answer(), name, body, number, connection)
        if wants_reply:
            connection.sendall(render(message, opcode, reply))

    # Commands

    def act(self, action, name, body, number, connection):
        while isinstance(action, Stall):
            self.wait(action, connection)
            action = action.then
        match action:
            case Drop(perform=perform):
                if perform:
                    self.perform(name, body, number)
                raise Ended
            case Reply(document=document):
                return document
            case Fail():
                if action.perform:
                    self.perform(name, body, number)
                return failure(action.code, action.message, action.labels)
            case RefuseDocuments():
                return self.perform(name, body, number, action)
            case WriteConcernFails():
                error = {"code": action.code, "codeName": CODE_NAMES.get(action.code, "Scripted"),
                         "errmsg": action.message}
                labels = [("errorLabels", list(action.labels))] if action.labels else []
                reply = self.perform(name, body, number)
                return bson.Document(list(reply.items()) + [("writeConcernError", error)] + labels)
            case Answer():
                return self.perform(name, body, number)
        raise AssertionError(f"{action!r} cannot be scripted")

    def wait(self, stall, connection):
        """Polls, since nothing can wait for an event and a socket at once."""
        deadline = time.monotonic() + min(stall.seconds, STALL_SECONDS_MAX)
        while not (stall.until and stall.until.is_set()) and time.monotonic() < deadline:
            if ended(connection):
                raise Ended
            time.sleep(0.005)

    def perform(self, name, body, number, refuse=None):
        with self.lock:
            try:
                return self.dispatch(name, body, number, refuse)
            except Refused as error:
                return failure(error.code, str(error))

    def dispatch(self, name, body, number, refuse):
        namespace = f"{body.get('$db')}.{body[name]}" if name in ("insert", "find", "delete", "createIndexes") else ""
        match name:
            case "hello":
                return self.hello(body, number)
            case "ping" | "endSessions":
                return {"ok": 1.0}
            case "insert" | "delete" | "createIndexes" if not self.is_primary:
                raise Refused(NOT_WRITABLE_PRIMARY, "not primary")
            case "find" if not self.is_primary:
                raise Refused(NOT_PRIMARY_NO_SECONDARY_OK, "not primary and secondaryOk=false")
            case "insert":
                return self.once(body, lambda: self.store.insert(namespace, body, refuse))
            case "delete":
                return self.once(body, lambda: self.store.delete(namespace, body))
            case "createIndexes":
                return self.store.create_indexes(namespace, body)
            case "find":
                batch = self.store.find(namespace, body)
                return {"cursor": {"firstBatch": batch, "id": bson.Int64(0), "ns": namespace}, "ok": 1.0}
            case "getMore":
                raise Refused(CURSOR_NOT_FOUND, f"cursor id {body['getMore']} not found")
        raise Refused(COMMAND_NOT_FOUND, f"no such command: '{name}'")

    def once(self, body, write):
        """A member of a replica set performs a numbered write once, and answers it again when it comes again."""
        if self.replica_set is None or "txnNumber" not in body:
            return write()
        return self.store.once((bson.encode(body["lsid"]), int(body["txnNumber"])), write)

    def hello(self, body, number):
        reply = {"helloOk": True}
        reply["isWritablePrimary" if body.keys()[0] == "hello" else "ismaster"] = self.is_primary
        if self.replica_set is not None:
            reply |= {"setName": self.replica_set, "setVersion": 1, "hosts": [self.address], "me": self.address,
                      "secondary": not self.is_primary}
            if self.is_primary:
                reply["primary"] = self.address
        return reply | {
            "maxBsonObjectSize": 16 << 20, "maxMessageSizeBytes": MESSAGE_BYTES_MAX, "maxWriteBatchSize": 100_000,
            "localTime": bson.DateTime(int(time.time() * 1000)), "logicalSessionTimeoutMinutes": 30,
            "connectionId": number, "minWireVersion": 0, "maxWireVersion": 21, "readOnly": False, "ok": 1.0}


# --- Messages ---------------------------------------------------------------------------------------------------------

def bound_socket(port):
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
    except BaseException:
        listener.close()
        raise
    return listener


def end(connection):
    """Wakes the thread that is in accept or recv, which close alone would not."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def ended(connection):
    """True once the other side, or end(), has closed it."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def receive_exactly(connection, count):
    data = bytearray()
    while len(data) < count:
        piece = connection.recv(min(count - len(data), 1 << 16))
        if not piece:
            raise Ended
        data += piece
    return bytes(data)


def receive(connection):
    """Number, opcode and the rest of one message."""
    length, number, _, opcode = HEADER.unpack(receive_exactly(connection, HEADER.size))
    if not HEADER.size <= length <= MESSAGE_BYTES_MAX:
        raise bson.Malformed(f"a message of {length} bytes")
    return number, opcode, receive_exactly(connection, length - HEADER.size)


def parse(opcode, payload):
    """The command's body, and whether it is answered."""
    reader = bson.Reader(payload)
    if opcode == OP_QUERY:
        reader.number("<I")
        collection = reader.cstring()
        reader.take(8)
        body = reader.document(0)
        if not collection.endswith(".$cmd"):
            raise bson.Malformed(f"a query of {collection!r}, which is no command")
        if "$query" in body:
            body = body["$query"]
        return body, True
    if opcode != OP_MSG:
        raise bson.Malformed(f"opcode {opcode}")
    flags = reader.number("<I")
    last = len(payload) - (4 if flags & CHECKSUM_PRESENT else 0)
    body, sequences = None, []
    while reader.at < last:
        kind = reader.number("<B")
        if kind == 0 and body is None:
            body = reader.document(0)
        elif kind == 1:
            section_end = reader.at + reader.number("<i")
            name = reader.cstring()
            documents = []
            while reader.at < section_end:
                documents.append(reader.document(0))
            sequences.append((name, documents))
        else:
            raise bson.Malformed(f"section {kind}")
    if body is None:
        raise bson.Malformed("a message without a command")
    return bson.Document(body.pairs + sequences), not flags & MORE_TO_COME


def render(in_answer_to, opcode, document):
    raw = bson.encode(document)
    if opcode == OP_QUERY:
        payload, opcode = struct.pack("<iqii", AWAIT_CAPABLE, 0, 0, 1) + raw, OP_REPLY
    else:
        payload = struct.pack("<IB", 0, 0) + raw
    return HEADER.pack(HEADER.size + len(payload), 0, in_answer_to, opcode) + payload


def failure(code, message, labels=()):
    reply = {"ok": 0.0, "errmsg": message, "code": code, "codeName": CODE_NAMES.get(code, "Scripted")}
    return reply | ({"errorLabels": list(labels)} if labels else {})


# --- Documents --------------------------------------------------------------------------------------------------------

OPERATORS = {"$eq": operator.eq, "$ne": operator.ne, "$lt": operator.lt, "$lte": operator.le, "$gt": operator.gt,
             "$gte": operator.ge, "$in": lambda value, list_: value in list_}


class Store:
    """Collections in memory; the caller holds the peer's lock."""

    def __init__(self):
        self.collections = {}
        self.indexes = {}
        self.answers = {}

    def documents(self, namespace):
        return list(self.collections.get(namespace, {}).values())

    def once(self, key, write):
        if key not in self.answers:
            self.answers[key] = write()
        return self.answers[key]

    def insert(self, namespace, body, refuse):
        collection = self.collections.setdefault(namespace, {})
        inserted, errors = 0, []
        for index, document in enumerate(body["documents"]):
            if "_id" not in document:
                raise Refused(BAD_VALUE, "the scripted peer makes no _id")
            key = id_key(document["_id"])
            if refuse and refuse.which(document):
                errors.append({"index": index, "code": refuse.code, "errmsg": refuse.message})
            elif key in collection:
                errors.append({"index": index, "code": DUPLICATE_KEY, "keyPattern": {"_id": 1},
                               "keyValue": {"_id": document["_id"]},
                               "errmsg": f"E11000 duplicate key error collection: {namespace} index: _id_ dup key: "
                                         f"{{ _id: {document['_id']!r} }}"})
            else:
                collection[key] = document
                inserted += 1
            if errors and body.get("ordered", True):
                break
        return {"n": inserted} | ({"writeErrors": errors} if errors else {}) | {"ok": 1.0}

    def find(self, namespace, body):
        found = self.matching(namespace, body.get("filter", bson.Document()))
        for field, direction in reversed(body.get("sort", bson.Document()).items()):
            try:
                found.sort(key=lambda document: comparable(document.get(field)), reverse=direction < 0)
            except TypeError as error:
                raise Refused(BAD_VALUE, f"the scripted peer cannot sort by {field}: {error}") from error
        found = found[body.get("skip", 0):]
        # A negative limit is the old way to ask for one batch only.
        if limit := abs(body.get("limit", 0)):
            found = found[:limit]
        return [project(document, body.get("projection", bson.Document())) for document in found]

    def delete(self, namespace, body):
        deleted = 0
        for order in body["deletes"]:
            found = self.matching(namespace, order["q"])
            for document in found[:1] if order["limit"] == 1 else found:
                del self.collections[namespace][id_key(document["_id"])]
                deleted += 1
        return {"n": deleted, "ok": 1.0}

    def create_indexes(self, namespace, body):
        known = self.indexes.setdefault(namespace, {"_id_"})
        before, is_new = len(known), namespace not in self.collections
        self.collections.setdefault(namespace, {})
        known.update(index["name"] for index in body["indexes"])
        return {"numIndexesBefore": before, "numIndexesAfter": len(known), "createdCollectionAutomatically": is_new,
                "ok": 1.0}

    def matching(self, namespace, condition):
        return [document for document in self.documents(namespace) if matches(document, condition)]


def id_key(value):
    return bson.encode(bson.Document([("_id", value)]))


def comparable(value):
    """Binary and the like compare by their bytes; what has no order makes sort and $lt raise TypeError."""
    if isinstance(value, (bson.Binary, bson.ObjectId)):
        return value.data
    return value.milliseconds if isinstance(value, bson.DateTime) else value


def matches(document, condition):
    for field, wanted in condition.items():
        if field.startswith("$"):
            raise Refused(BAD_VALUE, f"the scripted peer does not know {field}")
        value = comparable(document.get(field))
        is_operators = isinstance(wanted, bson.Document) and wanted.pairs and wanted.keys()[0].startswith("$")
        for name, operand in wanted.items() if is_operators else [("$eq", wanted)]:
            if name not in OPERATORS:
                raise Refused(BAD_VALUE, f"the scripted peer does not know {name}")
            operand = [comparable(item) for item in operand] if name == "$in" else comparable(operand)
            try:
                if not OPERATORS[name](value, operand):
                    return False
            except TypeError:
                # Values of different types have no order among them, as in a real server.
                return False
    return True


def project(document, projection):
    """Inclusion only, with _id unless it is switched off."""
    if not projection.pairs:
        return document
    flags = {"_id": True} | {name: bool(flag) for name, flag in projection.items()}
    wanted = {name for name, flag in flags.items() if flag}
    if not wanted - {"_id"} or flags.keys() - wanted - {"_id"}:
        raise Refused(BAD_VALUE, "the scripted peer only knows projections that name what is wanted")
    return bson.Document((key, value) for key, value in document.items() if key in wanted)
