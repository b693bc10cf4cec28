"""The command line: help, errors, where settings come from, verbs that end by themselves, the choice of an engine."""

import contextlib
import json
import os
import platform
import re
import socket
import time
import unittest

import kiln
from kiln import KilnTest, run

FLAGS = ["--port", "--admin-port", "--address", "--engine", "--workers", "--max-connections", "--keepalive-max-age",
         "--keepalive-max-requests", "--idle-timeout", "--header-timeout", "--drain-delay", "--drain-timeout",
         "--load-max", "--burn-queue", "--cost", "--cost-seed", "--max-body", "--max-head", "--max-request-line",
         "--max-fields", "--access-log", "--control-token", "--body-timeout", "--min-body-rate", "--write-timeout",
         "--linger-timeout", "--max-pipelined", "--max-queued", "--max-buffered", "--no-sandbox",
         "--data-dir", "--data-uri", "--mongo-host", "--mongo-user", "--mongo-password", "--data-max",
         "--data-size-max", "--data-batch", "--data-timeout", "--faults"]

DENIED = {"EPERM": "Operation not permitted", "ENOSYS": "Function not implemented"}


def variable_of(flag):
    return "KILN_" + flag[2:].upper().replace("-", "_")


def config_of(text):
    """--print-config as {flag: (value, source)}."""
    rows = [line.split(maxsplit=2) for line in text.splitlines()]
    return {row[0]: (row[1], row[2]) for row in rows}


@contextlib.contextmanager
def taken_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


class Help(KilnTest):
    def test_help_is_on_stdout(self):
        for arguments in (["--help"], ["-h"], ["serve", "--help"]):
            with self.subTest(arguments):
                ended = run(*arguments)
                self.assertEqual((ended.returncode, ended.stderr), (0, ""))
                for flag in FLAGS:
                    self.assertRegex(ended.stdout, rf"(?m)^  {flag}\b")
        for verb in ("healthcheck", "doctor"):
            ended = run(verb, "--help")
            self.assertEqual((ended.returncode, ended.stderr), (0, ""))
            self.assertIn(verb, run("--help").stdout)

    def test_version_names_what_it_was_built_from(self):
        ended = run("--version")
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        self.assertRegex(ended.stdout, r"^kiln \d+\.\d+\.\d+ \(commit [0-9a-z-]+, .+, liburing \d+\.\d+\)\n$")


class Mistakes(KilnTest):
    def check(self, ended, *words):
        self.assertEqual(ended.returncode, 2, ended)
        self.assertEqual(ended.stdout, "")
        self.assertEqual(ended.stderr.count("\n"), 1, ended.stderr)
        self.assertTrue(ended.stderr.endswith("\n"))
        for word in words:
            self.assertIn(word, ended.stderr)

    VALUES = [
        ("--port", "65536", "65535"), ("--port", "-1", ""), ("--port", "http", ""), ("--port", "80.5", ""),
        ("--port", " 80", ""), ("--admin-port", "x", "none"), ("--admin-port", "70000", "65535"),
        ("--address", "localhost", "numeric"), ("--address", "1.2.3", "numeric"), ("--engine", "kqueue", "io_uring"),
        ("--workers", "0", "auto"), ("--workers", "257", "256"), ("--max-connections", "0", "1000000"),
        ("--keepalive-max-age", "60", "1.5s"), ("--keepalive-max-age", "1ms", "24h"),
        ("--idle-timeout", "soon", ""), ("--header-timeout", "2h", "1h"), ("--drain-delay", "5", ""),
        ("--drain-delay", "-5s", ""), ("--drain-timeout", "1d", ""), ("--load-max", "1e309s", ""),
        ("--burn-queue", "2 s", ""), ("--max-body", "1MB", "KiB"), ("--max-body", "65MiB", "64MiB"),
        ("--max-head", "511", "512"), ("--max-request-line", "99999999999999999999", ""), ("--max-fields", "0", "128"),
        ("--access-log", "1.01", "1"), ("--access-log", "nan", "1"), ("--cost", "/=5", "TIME"),
        ("--cost", "/=normal(5ms,1)", "lognormal"), ("--cost", "/=61s", "1m"), ("--cost", "/nowhere=5ms", "/api/info"),
        ("--cost", "/load=5ms", "/load"), ("--cost-seed", "-1", "digits"), ("--no-sandbox", "yes", "true"),
        ("--faults", "yes", "unhealthy"), ("--faults", "hang", "unready"),
        ("--data-max", "1", "8MiB"), ("--data-size-max", "1KiB", "64KiB"), ("--data-batch", "0", "10000"),
        ("--data-timeout", "1ms", "1h"),
    ]

    def test_bad_value_of_a_flag(self):
        for flag, value, accepted in self.VALUES:
            with self.subTest(f"{flag} {value!r}"):
                self.check(run("serve", f"{flag}={value}"), flag, f"'{value}'", accepted)
                self.check(run(f"{flag}={value}"), flag, f"'{value}'")

    def test_bad_value_in_the_environment(self):
        for flag, value, accepted in self.VALUES:
            with self.subTest(f"{variable_of(flag)}={value!r}"):
                self.check(run("serve", env={variable_of(flag): value}), variable_of(flag), f"'{value}'", accepted)

    def test_value_with_a_line_end_is_told_in_one_line(self):
        self.check(run("serve", "--engine", "epoll\nINFO all is well"), "--engine")
        self.check(run("serve", env={"KILN_PORT": "80\nINFO all is well"}), "KILN_PORT")

    def test_unknown_words(self):
        for arguments in (["--nonsense"], ["serve", "--nonsense"], ["serve", "--nonsense=5"], ["-z"],
                          ["doctor", "--nonsense"], ["healthcheck", "--nonsense"]):
            with self.subTest(arguments):
                self.check(run(*arguments), arguments[-1].split("=")[0], "--help")
        self.check(run("frobnicate"), "frobnicate", "--help")
        self.check(run("serve", "8080"), "8080", "--help")
        self.check(run("serve", "--port"), "--port")
        self.check(run("doctor", "--format", "xml"), "--format", "xml", "json")

    def test_print_config_of_bad_values(self):
        self.check(run("--print-config", "--port", "x"), "--port")


class PrintConfig(KilnTest):
    def config(self, *arguments, env=None):
        ended = run(*arguments, env=env)
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        return config_of(ended.stdout)

    def test_defaults(self):
        config = self.config("--print-config")
        self.assertLessEqual(set(FLAGS), set(config))
        self.assertEqual({source for _, source in config.values()}, {"default"})
        for flag, value in (("--port", "8080"), ("--drain-delay", "5s"), ("--drain-timeout", "20s"),
                            ("--load-max", "1s"), ("--burn-queue", "2s"), ("--keepalive-max-age", "60s"),
                            ("--engine", "auto"), ("--access-log", "0")):
            self.assertEqual(config[flag][0], value)

    def test_flag_beats_environment_beats_default(self):
        env = {"KILN_PORT": "9001", "KILN_DRAIN_DELAY": "250ms"}
        for arguments in (["--print-config", "--port", "9002"], ["serve", "--print-config", "--port=9002"]):
            config = self.config(*arguments, env=env)
            self.assertEqual(config["--port"], ("9002", "flag"))
            self.assertEqual(config["--drain-delay"], ("250ms", "environment KILN_DRAIN_DELAY"))
            self.assertEqual(config["--drain-timeout"], ("20s", "default"))

    def test_every_flag_has_its_variable(self):
        values = {"--port": "1", "--admin-port": "2", "--address": "::1", "--engine": "epoll", "--workers": "3",
                  "--max-connections": "4", "--keepalive-max-requests": "5", "--max-fields": "6",
                  "--access-log": "0.25", "--cost": "/=2ms", "--cost-seed": "10", "--no-sandbox": "1",
                  "--faults": "unready",
                  "--max-body": "7KiB", "--max-head": "8KiB", "--max-request-line": "9KiB",
                  "--min-body-rate": "12", "--max-pipelined": "13", "--max-queued": "14KiB", "--max-buffered": "15MiB",
                  "--data-uri": "sqlite:16.db", "--data-max": "17KiB", "--data-size-max": "18MiB", "--data-batch": "19"}
        values = {flag: values.get(flag, "11s") for flag in FLAGS}
        by_variable = self.config("--print-config", env={variable_of(flag): value for flag, value in values.items()})
        by_flag = self.config("--print-config", *(f"{flag}={value}" for flag, value in values.items()))
        for flag, value in values.items():
            value = "(set)" if flag in ("--control-token", "--mongo-user", "--mongo-password") else value
            self.assertEqual(by_variable[flag], (value, f"environment {variable_of(flag)}"))
            self.assertEqual(by_flag[flag], (value, "flag"))

    def test_credentials_of_a_database_are_never_shown(self):
        secret = "s3cret-word"
        for uri, shown in ((f"mongodb://admin:{secret}@mongodb-service", "mongodb://mongodb-service"),
                           (f"mongodb://{secret}:x@a:27017,b/db?w=1", "mongodb://a:27017,b"),
                           (f"mongodb+srv://u:{secret}@cluster.example/", "mongodb+srv://cluster.example"),
                           (f"mongodb://u:p/{secret}@host", "mongodb://(hidden)")):
            for arguments, env in ((["--data-uri", uri], {}), ([], {"KILN_DATA_URI": uri})):
                ended = run("--print-config", *arguments, env=env)
                self.assertEqual(config_of(ended.stdout)["--data-uri"][0], shown)
                self.assertNotIn(secret, ended.stdout + ended.stderr)
        env = {"KILN_MONGO_USER": secret + "1", "KILN_MONGO_PASSWORD": secret + "2"}
        self.assertNotIn(secret, run("--print-config", env=env).stdout)
        for uri in (f"mongodb:/u:{secret}@host", f"mongo://{secret}@host", secret):
            ended = run("serve", env={"KILN_DATA_URI": uri})
            self.assertEqual(ended.returncode, 2)
            self.assertIn("KILN_DATA_URI", ended.stderr)
            self.assertNotIn(secret, ended.stdout + ended.stderr)

    def test_names_of_mongodbs_own_image_are_taken(self):
        env = {"MONGO_INITDB_ROOT_USERNAME": "root", "MONGO_INITDB_ROOT_PASSWORD": "x"}
        config = self.config("--print-config", env=env)
        self.assertEqual(config["--mongo-user"], ("(set)", "environment MONGO_INITDB_ROOT_USERNAME"))
        self.assertEqual(config["--mongo-password"], ("(set)", "environment MONGO_INITDB_ROOT_PASSWORD"))
        config = self.config("--print-config", env={**env, "KILN_MONGO_USER": "mine"})
        self.assertEqual(config["--mongo-user"], ("(set)", "environment KILN_MONGO_USER"))

    def test_repeated_costs_join(self):
        flags = ["--cost", "/=2ms", "--cost=/api/info=lognormal(5ms,0.8)", "--cost", "/echo=1ms /livez=0"]
        joined = "/=2ms /api/info=lognormal(5ms,0.8) /echo=1ms /livez=0"
        for env in ({}, {"KILN_COST": "/version=1ms"}):
            ended = run("--print-config", *flags, env=env)
            self.assertEqual((ended.returncode, ended.stderr), (0, ""))
            self.assertRegex(ended.stdout, rf"(?m)^--cost +{re.escape(joined)} +flag$")

    def test_bare_switch_is_on(self):
        for arguments in (["--no-sandbox", "--print-config"], ["serve", "--no-sandbox", "--print-config"]):
            self.assertEqual(self.config(*arguments)["--no-sandbox"], ("true", "flag"))
        self.assertEqual(self.config("--faults", "--print-config")["--faults"], ("true", "flag"))
        self.assertEqual(self.config("--no-sandbox=0", "--print-config", env={"KILN_NO_SANDBOX": "1"})["--no-sandbox"],
                         ("0", "flag"))

    def test_empty_variable_is_unset(self):
        self.assertEqual(self.config("--print-config", env={"KILN_PORT": ""})["--port"], ("8080", "default"))

    def test_service_links_are_no_settings(self):
        for value in ("tcp://10.0.0.1:8080", "udp://10.0.0.1:53"):
            self.assertEqual(self.config("--print-config", env={"KILN_PORT": value})["--port"], ("8080", "default"))


class Starting(KilnTest):
    def fails_to_start(self, *flags, confine=()):
        """The one line that a server says which cannot start."""
        ended = run("serve", "--data-uri", "memory:", *flags, confine=confine)
        self.assertEqual(ended.returncode, 1, ended)
        lines = (ended.stdout + ended.stderr).splitlines()
        self.assertEqual(len(lines), 1, lines)
        if ended.stdout:
            record = json.loads(lines[0])
            self.assertEqual(record["level"], "error")
            return record["msg"]
        return lines[0]

    def test_port_in_use(self):
        with taken_port() as port:
            for workers in ("1", "2"):
                line = self.fails_to_start("--address", "127.0.0.1", "--port", str(port), "--workers", workers)
                self.assertIn(str(port), line)
                self.assertIn("Address already in use", line)
                self.assertIn("--port", line)

    def test_port_of_another_kiln(self):
        for workers in ("1", "2"):
            other = self.start("--workers", workers, engine="auto")
            self.assertIn(str(other.port), self.fails_to_start("--port", str(other.port), "--workers", workers))
            self.assertEqual(other.fetch("/livez").status, 200)

    def test_admin_port_in_use(self):
        with taken_port() as port:
            line = self.fails_to_start("--address", "127.0.0.1", "--port", "0", "--admin-port", str(port))
            self.assertIn(str(port), line)
            self.assertIn("--admin-port", line)

    def test_address_of_another_machine(self):
        line = self.fails_to_start("--address", "192.0.2.1", "--port", "0")
        self.assertIn("192.0.2.1", line)
        self.assertIn("Cannot assign requested address", line)

    @unittest.skipIf(kiln.SANITIZED, "the sanitizers themselves need descriptors")
    def test_too_few_descriptors_to_start(self):
        self.fails_to_start("--port", "0", confine=["--open-files", "8"])

    def test_io_uring_that_is_denied(self):
        for name, words in DENIED.items():
            with self.subTest(name):
                line = self.fails_to_start("--port", "0", "--engine", "io_uring",
                                           confine=["--deny", f"io_uring={name}"])
                for word in ("io_uring", words, "seccomp"):
                    self.assertIn(word, line)

    def test_auto_falls_back_and_says_why(self):
        for name, words in DENIED.items():
            with self.subTest(name):
                server = self.start(engine="auto", confine=["--deny", f"io_uring={name}"])
                info = server.info()
                metrics = server.metrics()
                for engine, reason in ((server.listening["engine"], server.listening["engine_reason"]),
                                       (info["engine"], info["engine_reason"])):
                    self.assertEqual(engine, "epoll")
                    self.assertIn(words, reason)
                    self.assertIn("seccomp", reason)
                self.assertEqual(metrics.one("kiln_engine_info", engine="epoll", reason=info["engine_reason"]), 1)
                self.assertEqual(metrics.one("kiln_pod_info", engine="epoll"), 1)
                self.assertEqual(server.fetch("/load?ms=1").status, 200)

    def test_requested_engine_is_the_engine(self):
        server = self.start(engine="epoll")
        self.assertEqual((server.info()["engine"], server.info()["engine_reason"]), ("epoll", "requested"))

    def test_workers(self):
        for count in (1, 3):
            server = self.start("--workers", count, engine="auto")
            self.assertEqual((server.listening["workers"], server.info()["workers"]), (count, count))


class Healthcheck(KilnTest):
    def check(self, *arguments, env=None):
        return run("healthcheck", *arguments, env=env)

    def test_ready(self):
        server = self.start(engine="auto")
        ended = self.check(f"http://127.0.0.1:{server.port}/readyz")
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        self.assertEqual(self.check(f"http://localhost:{server.port}/readyz").returncode, 0)
        self.assertEqual(self.check(env={"KILN_PORT": str(server.port)}).returncode, 0)

    def test_finds_the_admin_port_and_the_address(self):
        server = self.start("--admin-port", "0", "--address", "127.0.0.3", engine="auto")
        env = {"KILN_PORT": "1", "KILN_ADMIN_PORT": str(server.admin_port), "KILN_ADDRESS": "127.0.0.3"}
        self.assertEqual(self.check(env=env).returncode, 0)
        self.assertEqual(self.check(env=dict(env, KILN_ADDRESS="127.0.0.1")).returncode, 1)

    def fails(self, url, code=1):
        ended = self.check(url)
        self.assertEqual(ended.returncode, code, ended)
        return ended

    def test_not_ready(self):
        server = self.start("--drain-delay", "30s", engine="auto")
        server.signal()
        server.wait_for_log("draining")
        self.fails(f"http://127.0.0.1:{server.port}/readyz")
        self.assertEqual(self.check(f"http://127.0.0.1:{server.port}/livez").returncode, 0)
        self.fails(f"http://127.0.0.1:{server.port}/nowhere")

    def test_nobody_there(self):
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
            ended = self.fails(f"http://127.0.0.1:{port}/readyz")
        self.assertEqual(ended.stderr.count("\n"), 1)
        self.assertIn("refused", ended.stderr)

    def test_server_that_never_answers(self):
        with taken_port() as port:
            before = time.monotonic()
            ended = self.fails(f"http://127.0.0.1:{port}/readyz")
        self.assertLess(time.monotonic() - before, 5 * kiln.SLOW)
        self.assertEqual(ended.stderr.count("\n"), 1)

    def test_server_that_speaks_something_else(self):
        for words in (b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 2", b"HTTP/1.1 abc\r\n\r\n", b"\0" * 100):
            with self.subTest(words), socket.socket() as listener:
                listener.bind(("127.0.0.1", 0))
                listener.listen()

                def speak(listener=listener, words=words):
                    client, _ = listener.accept()
                    with client:
                        client.recv(1000)
                        client.sendall(words)

                with kiln.Together(speak):
                    self.fails(f"http://127.0.0.1:{listener.getsockname()[1]}/")

    def test_no_url(self):
        for url in ("ftp://127.0.0.1/", "127.0.0.1:8080", "http://", "http://:80/", "http://127.0.0.1:0/",
                    "http://127.0.0.1:99999/", "http://127.0.0.1:x/", "http://[::1/", "https://127.0.0.1/"):
            with self.subTest(url):
                ended = self.fails(url, 2)
                self.assertEqual(ended.stderr.count("\n"), 1)
                self.assertIn("http://", ended.stderr)
        self.assertEqual(self.check(env={"KILN_PORT": "x"}).returncode, 2)


class Doctor(KilnTest):
    def doctor(self, env=None, confine=()):
        text = run("doctor", env=env, confine=confine)
        ended = run("doctor", "--format", "json", env=env, confine=confine)
        for verb in (text, ended):
            self.assertEqual((verb.returncode, verb.stderr), (0, ""))
        found = json.loads(ended.stdout)
        for name in found:
            self.assertRegex(text.stdout, rf"(?m)^{name} ")
        return found, text.stdout

    def test_says_what_there_is(self):
        found, text = self.doctor(env={"POD_NAME": "kiln-1", "CPU_REQUEST_MILLI": "100"})
        self.assertIn(found["engine"], ("io_uring", "epoll"))
        self.assertTrue(found["engine_reason"])
        self.assertEqual(found["ring_restrictions"], "in force" if found["engine"] == "io_uring" else "none")
        self.assertEqual(found["sandbox"], "possible")
        self.assertIn(platform.release(), found["kernel"])
        self.assertEqual(found["affinity_cpus"], len(os.sched_getaffinity(0)))
        self.assertGreaterEqual(found["workers"], 1)
        self.assertEqual(found["POD_NAME"], "kiln-1")
        self.assertEqual(found["CPU_REQUEST_MILLI"], "100")
        self.assertIsNone(found["NODE_NAME"])
        for name in ("cpu_limit_millicores", "throttled_periods", "memory_limit_bytes", "open_files", "cgroup"):
            self.assertIn(name, found)
        self.assertIn("kiln-1", text)

    def test_says_what_there_is_not(self):
        for name, words in DENIED.items():
            with self.subTest(name):
                found, text = self.doctor(confine=["--deny", f"io_uring={name}"])
                self.assertEqual(found["engine"], "epoll")
                for said in (found["engine_reason"], text):
                    self.assertIn(words, said)
                    self.assertIn("seccomp", said)
        found, _ = self.doctor(confine=["--deny", "ring_restrictions=EINVAL"])
        self.assertEqual(found["engine"], "io_uring")
        self.assertRegex(found["ring_restrictions"], "^refused: .*Invalid argument")
        found, _ = self.doctor(confine=["--deny", "seccomp=EPERM"])
        self.assertRegex(found["sandbox"], "^not possible: .*seccomp")
        self.assertIn("64", self.doctor(confine=["--open-files", "64"])[0]["open_files"])


if __name__ == "__main__":
    unittest.main()
