"""Servers whose every byte is scripted here, and what stands in front of servers."""

import contextlib
import itertools
import re
import socket
import threading
import time

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def named(pod, node="node-1"):
    """An answer of that pod."""
    return OK.replace(b"\r\n\r\n", b"\r\nX-Pod-Name: %b\r\nX-Node-Name: %b\r\n\r\n" % (pod.encode(), node.encode()))


class Peer:
    """Answers each request with `answer(peer, connection number, request number)`: bytes, and whether to close behind
    them. Connections without a request are not counted."""

    def __init__(self, answer, greeting=b""):
        self.answer, self.greeting = answer, greeting
        self.came = []         # of each request: when, its bytes
        self.connections = []  # of each that carried a request: how many
        self.lock = threading.Lock()
        self.sockets = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sockets.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        number, buffer = None, b""
        with connection, contextlib.suppress(OSError):
            if self.greeting:
                connection.sendall(self.greeting)
            while data := connection.recv(65536):
                buffer += data
                while b"\r\n\r\n" in buffer:
                    head, _, buffer = buffer.partition(b"\r\n\r\n")
                    if length := re.search(rb"(?i)content-length: ([0-9]+)", head):
                        while len(buffer) < int(length[1]):
                            buffer += connection.recv(65536)
                        head, buffer = head + b"\r\n\r\n" + buffer[:int(length[1])], buffer[int(length[1]):]
                    with self.lock:
                        if number is None:
                            number = len(self.connections)
                            self.connections.append(0)
                        self.connections[number] += 1
                        request = len(self.came)
                        self.came.append((time.time(), head))
                    answer = self.answer(self, number, request)
                    answer, close = answer if isinstance(answer, tuple) else (answer, False)
                    connection.sendall(answer)
                    if close or b"\r\nConnection: close" in head:
                        return

    def close(self):
        self.listener.close()
        for connection in self.sockets:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class RoundRobin:
    """Passes each connection on to the next server."""

    def __init__(self, ports):
        self.ports = itertools.cycle(ports)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/"
        self.sockets = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                here, _ = self.listener.accept()
            except OSError:
                return
            there = socket.create_connection(("127.0.0.1", next(self.ports)))
            self.sockets += [here, there]
            for a, b in ((here, there), (there, here)):
                threading.Thread(target=self._pass, args=(a, b), daemon=True).start()

    @staticmethod
    def _pass(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def close(self):
        self.listener.close()
        for connection in self.sockets:
            connection.close()
