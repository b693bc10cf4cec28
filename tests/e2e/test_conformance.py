"""Plays the cases of tests/conformance with a running server, many connections at a time: whole, byte by byte, and cut
in two everywhere.

Between two pieces a pilot's request is answered by the same worker: what was sent before it has been read by then, so
the pieces do arrive as pieces."""

import sys
import unittest

import kiln

sys.path.append(str(kiln.HERE.parent / "conformance"))
from table import read_cases  # noqa: E402

AT_A_TIME = 250  # connections; 127.0.0.0/8 has enough ports for those that wait in TIME_WAIT
PIECES_MAX = 1000  # of a stage sent "byte by byte"; longer ones go in larger pieces
EVERY_SPLIT_UP_TO = 512  # bytes; longer ones are cut only near their ends
# A sanitized server is several times slower, and the protocol's own test makes every cut with sanitizers too.
SPLIT_STEP = 7 if kiln.SANITIZED else 1
PROBE = b"GET /api/info HTTP/1.1\r\nHost: kiln\r\n\r\n"


def whole(data):
    return [data]


def byte_by_byte(data):
    step = len(data) // PIECES_MAX + 1
    return [data[at:at + step] for at in range(0, len(data), step)] or [b""]


def cut_at(split):
    return lambda data: [data[:split], data[split:]] if split < len(data) else [data]


class Play:
    """One connection that plays one case."""

    def __init__(self, port, case, cut):
        self.case = case
        self.failed = False
        self.client = kiln.Client(port)
        self.pieces = [cut(stage.data) for stage in case.stages]

    def send(self, data):
        try:
            self.client.send(data)
        except (BrokenPipeError, ConnectionResetError):
            # The server has refused what came before and closed; the answer is still to be read.
            if not self.case.closes:
                raise

    def end_stage(self, stage):
        if stage.ends_sending or self.case.nothing:
            self.client.half_close()

    def read_stage(self, stage):
        for wanted in stage.answers:
            answer = self.client.response("HEAD" if wanted.to_head else "GET")
            if answer.status != wanted.status:
                raise AssertionError(f"{answer.status} where {wanted.status} is due")
            if wanted.body is not None and answer.body != wanted.body:
                raise AssertionError(f"the body is {answer.body[:200]!r}")
            lines = [f"{name}: {value}" for name, value in answer.fields]
            for line in wanted.fields:
                if line not in lines:
                    raise AssertionError(f"no {line!r} in {lines}")
            if answer.status >= 200 and not answer.header("Date"):
                raise AssertionError("no Date")
            last = self.case.closes and stage is self.case.stages[-1] and wanted is stage.answers[-1]
            # Whether a client's end is seen before its answer is written is a matter of chance.
            if answer.closes != last and not stage.ends_sending:
                raise AssertionError(f"Connection: close is {answer.closes}, but should be {last}")

    def finish(self):
        if self.case.closes or self.case.nothing:
            self.client.expect_end()
        else:
            self.client.send(PROBE)
            answer = self.client.response()
            if answer.status != 200:
                raise AssertionError(f"behind the last answer: {answer.status}")


class Conformance(kiln.SharedServerTest):
    flags = ("--workers", "1")

    def setUp(self):
        super().setUp()
        self.cases = read_cases()
        self.assertGreater(len(self.cases), 600)
        self.plays = 0
        self.failures = []
        self.pilot = self.server.connect()
        self.addCleanup(self.pilot.close)

    def settle(self):
        """What has been sent so far has been read by the server."""
        if self.pilot.get("/livez").closes:
            self.pilot.close()
            self.pilot = self.server.connect()

    def play(self, cuts):
        """`cuts` are pairs of a case and how it is cut."""
        for at in range(0, len(cuts), AT_A_TIME):
            plays = [Play(self.server.port, case, cut) for case, cut in cuts[at:at + AT_A_TIME]]
            self.play_together(plays)
            self.plays += len(plays)
        if self.failures:
            self.fail(f"{len(self.failures)} of {self.plays} plays failed:\n" + "\n".join(self.failures[:20]))
        print(f"{self.plays} plays of {len(self.cases)} cases", file=sys.stderr)

    def play_together(self, plays):
        going = plays
        for number in range(max(len(play.case.stages) for play in plays)):
            going = [play for play in going if number < len(play.case.stages)]
            for piece in range(max(len(play.pieces[number]) for play in going)):
                if piece > 0:
                    self.settle()
                for play in going:
                    if piece < len(play.pieces[number]):
                        self.attempt(play, lambda play=play: play.send(play.pieces[number][piece]))
            for play in going:
                self.attempt(play, lambda play=play: play.end_stage(play.case.stages[number]))
            for play in going:
                self.attempt(play, lambda play=play: play.read_stage(play.case.stages[number]))
        for play in plays:
            self.attempt(play, play.finish)
            play.client.reset()

    def attempt(self, play, action):
        if play.failed:
            return
        try:
            action()
        except (AssertionError, OSError, kiln.Ended) as failure:
            pieces = [len(piece) for piece in play.pieces[0]]
            self.failures.append(f"{play.case.name}, in pieces of {pieces[:3]}: {type(failure).__name__} {failure}")
            play.failed = True

    def test_whole(self):
        self.play([(case, whole) for case in self.cases])

    def test_byte_by_byte(self):
        self.play([(case, byte_by_byte) for case in self.cases])

    def test_cut_in_two(self):
        cuts = []
        for case in self.cases:
            longest = max(len(stage.data) for stage in case.stages)
            near = EVERY_SPLIT_UP_TO // 2
            cuts += [(case, cut_at(split)) for split in range(1, longest, SPLIT_STEP)
                     if longest <= 2 * near or split < near or split > longest - near]
        self.play(cuts)


if __name__ == "__main__":
    unittest.main()
