"""Reads the cases of the *.cases files; README.md tells what their lines mean."""

import dataclasses
import pathlib
import re

HERE = pathlib.Path(__file__).resolve().parent


@dataclasses.dataclass
class Answer:
    status: int
    to_head: bool = False
    body: bytes | None = None  # what it must be, when that is said
    fields: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Stage:
    """The client sends, then waits for the answers."""
    data: bytes = b""
    ends_sending: bool = False
    answers: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Case:
    name: str
    stages: list = dataclasses.field(default_factory=list)
    closes: bool = False
    nothing: bool = False


REPETITION_END = re.compile(r"\*([0-9]+)\}")
PLAIN = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}


def unescape(text, at=0, inside_repetition=False):
    """The bytes of `text` from `at`, and where they end: at its end, or at that of a repetition."""
    out = bytearray()
    while at < len(text):
        if inside_repetition and REPETITION_END.match(text, at):
            return bytes(out), at
        if text[at] != "\\":
            out += text[at].encode("ascii")
            at += 1
            continue
        escape = text[at + 1]
        at += 2
        if escape == "x":
            out.append(int(text[at:at + 2], 16))
            at += 2
        elif escape == "{":
            piece, at = unescape(text, at, True)
            end = REPETITION_END.match(text, at)
            out += piece * int(end[1])
            at = end.end()
        else:
            out += PLAIN[escape]
    if inside_repetition:
        raise ValueError(f"a repetition without its end: {text}")
    return bytes(out), at


def behind(line, mark):
    rest = line[len(mark):]
    return rest[1:] if rest.startswith(" ") else rest


class Reader:
    def __init__(self):
        self.cases = []
        self.requirement = ""
        self.template = ""
        self.collecting = False

    def begin(self, name):
        self.cases.append(Case(f"{self.requirement} / {name}"))

    def sending(self):
        stages = self.cases[-1].stages
        if not stages or stages[-1].answers:
            stages.append(Stage())
        return stages[-1]

    def expect(self, outcome):
        case = self.cases[-1]
        for word in outcome.split():
            if word == "close":
                case.closes = True
            elif word == "nothing":
                case.nothing = True
            else:
                answer = Answer(int(word[:3]), to_head=word[3:] == "/head")
                if word[3:].startswith("="):
                    answer.body = unescape(word[4:])[0]
                case.stages[-1].answers.append(answer)

    def take_row(self, row):
        name, _, rest = row.partition(" | ")
        text, bar, outcome = rest.rpartition("| ")
        if not bar:
            raise ValueError(row)
        self.begin(name)
        self.sending().data = unescape(self.template.replace("{}", text.strip(" "), 1))[0]
        self.expect(outcome)

    def take(self, line):
        if line.startswith("%"):
            if not self.collecting:
                self.template = ""
            self.collecting = True
            self.template += behind(line, "%%") if line.startswith("%%") else behind(line, "%") + "\\r\\n"
            return
        self.collecting = False
        if line.startswith("== "):
            self.requirement = line[3:]
        elif line.startswith("-- "):
            self.begin(line[3:])
        elif line == ">|":
            self.sending().ends_sending = True
        elif line.startswith(">>"):
            self.sending().data += unescape(behind(line, ">>"))[0]
        elif line.startswith(">"):
            self.sending().data += unescape(behind(line, ">"))[0] + b"\r\n"
        elif line.startswith("<:"):
            self.cases[-1].stages[-1].answers[-1].fields.append(behind(line, "<:"))
        elif line.startswith("<"):
            self.expect(behind(line, "<"))
        elif line.startswith("- "):
            self.take_row(line[2:])
        elif line and not line.startswith("#"):
            raise ValueError(line)


def read_cases():
    reader = Reader()
    for path in sorted(HERE.glob("*.cases")):
        for line in path.read_text("ascii").splitlines():
            reader.take(line)
    return reader.cases
