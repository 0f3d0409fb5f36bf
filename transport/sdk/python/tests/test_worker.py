import logging
import os
import signal
import ssl
import subprocess
import sys
import threading
import unittest
from collections.abc import Callable
from typing import Any

import troupe
from troupe import exact
from troupe.attempt import Attempt

from .peer import Peer, Stage
from .world import SERVER, control

logging.getLogger("troupe").addHandler(logging.NullHandler())
logging.getLogger("troupe").propagate = False


class Running:
    """A worker in a thread, that is stopped in the end."""

    def __init__(self, worker: troupe.Worker) -> None:
        self.worker = worker
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.worker.run()
        except BaseException as e:
            self.error = e

    def join(self) -> None:
        self._thread.join()

    def __enter__(self) -> "Running":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.worker.stop()
        self._thread.join()


def worker(url: str, handler: Callable[[Attempt], Any], **more: Any) -> troupe.Worker:
    w = troupe.Worker(url, "", name="n", **more)
    w.task("k")(handler)
    return w


class Scripted(unittest.TestCase):
    def test_a_broken_connection_keeps_what_runs_and_says_again_what_may_be_lost(self) -> None:
        go, over = threading.Event(), threading.Event()
        said: list[Any] = []

        def handler(a: Attempt) -> str:
            a.output(1)
            a.output(2)
            go.wait()
            a.output(3)
            return "done"

        def first(p: Peer) -> None:
            p.accept().register()
            p.run("T")
            p.ok(p.hear())
            said.append(p.hear())  # and gone without an answer

        def second(p: Peer) -> None:
            asked = p.accept().register("T")
            said.append((asked["resume"], asked["running"]))
            p.run("T")  # sent twice, it is the same attempt
            go.set()
            for _ in range(3):
                message = p.hear()
                said.append(message)
                p.ok(message)
            over.set()
            p.hear()  # until it is gone

        with Stage(first, second) as stage, Running(worker(stage.url, handler)):
            over.wait()
        self.assertEqual(said[1], ("s", ["T"]))
        self.assertEqual([m["params"].get("chunk", m["params"].get("result")) for m in said[:1] + said[2:]], [2, 2, 3, "done"])
        self.assertEqual(said[0]["id"], said[2]["id"])

    def test_what_the_server_has_not_kept_stops(self) -> None:
        reasons: list[str] = []
        ended, over = threading.Event(), threading.Event()

        def handler(a: Attempt) -> None:
            try:
                a.cancelled.wait()
                a.check()
            except troupe.Cancelled as e:
                reasons.append(e.reason)
                raise
            finally:
                ended.set()

        def first(p: Peer) -> None:
            p.accept().register()
            p.run("T")
            p.run("U")
            p.send(9, b"?")
            p.notify("cancel", task="t", attempt=1, token="U", reason="timeout")
            failed = p.hear()
            self.assertEqual((failed["params"]["token"], failed["params"]["error"]["code"]), ("U", "timeout"))
            self.assertEqual(p.pongs, [b"?"])
            ended.clear()
            p.no(failed, "stale_attempt")

        def second(p: Peer) -> None:
            p.accept().register()
            ended.wait()
            over.set()
            p.hear()

        with Stage(first, second) as stage, Running(worker(stage.url, handler, slots=2)):
            over.wait()
        self.assertEqual(reasons, ["timeout", "lost"])

    def test_after_a_lease_it_begins_anew(self) -> None:
        asked: list[Any] = []
        lost, over = threading.Event(), threading.Event()

        def handler(a: Attempt) -> None:
            a.cancelled.wait()
            lost.set()

        def first(p: Peer) -> None:
            p.accept()
            with p.at_once():  # it does not wait for long
                p.register(lease="1ms")
                p.run("T")

        def away(p: Peer) -> None:
            if not lost.is_set():
                p.answer("503 Service Unavailable", {"Content-Length": "0", "Retry-After": "0"})

        def last(p: Peer) -> None:
            asked.append(p.accept().register())
            over.set()
            p.hear()

        with Stage(first, *[away] * 3, last) as stage, Running(worker(stage.url, handler)):
            over.wait()
            lost.wait()
        self.assertNotIn("resume", asked[0])

    def test_close_codes_of_44xx_and_faults_of_ours_end_it(self) -> None:
        for code, want in ((4401, "unauthorized"), (4403, "forbidden"), (1009, "socket_closed")):

            def play(p: Peer, code: int = code) -> None:
                p.accept().register()
                p.send(8, code.to_bytes(2, "big"))

            with self.subTest(code), Stage(play) as stage, self.assertRaises(troupe.Problem) as caught:
                worker(stage.url, print).run()
            self.assertEqual(caught.exception.code, want)

    def test_refusals_end_it(self) -> None:
        body = '{"code":"unauthorized","status":401,"title":"T"}'

        def shut(p: Peer) -> None:
            p.answer("401 Unauthorized", {"Content-Length": str(len(body))}, body)

        def refused(p: Peer) -> None:
            p.accept()
            p.no(p.hear(), "invalid_params", 422)

        for play, code in ((shut, "unauthorized"), (refused, "invalid_params")):
            with self.subTest(code), Stage(play) as stage, self.assertRaises(troupe.Problem) as caught:
                worker(stage.url, print).run()
            self.assertEqual(caught.exception.code, code)

    def test_what_is_no_websocket_is_no_server(self) -> None:
        for changes in (
            {"Sec_WebSocket_Accept": "x"},
            {"Sec_WebSocket_Protocol": "other"},
            {"Sec_WebSocket_Extensions": "permessage-deflate"},
            {"Upgrade": ""},
        ):
            with self.subTest(changes), Stage(lambda p, c=changes: p.accept(**c)) as stage, self.assertRaises(troupe.Unreachable):
                worker(stage.url, print).run()
        for raw in (b"", b"nonsense\r\n\r\n", b"HTTP/1.1 101 X\r\n" + b"a" * 70_000):
            with self.subTest(raw[:10]), Stage(lambda p, r=raw: p.raw.sendall(r)) as stage, self.assertRaises(troupe.Unreachable):
                worker(stage.url, print).run()

    def test_a_drained_worker_takes_leave_of_a_server_that_goes(self) -> None:
        over = threading.Event()

        def first(p: Peer) -> None:
            p.accept().register()
            p.notify("drain", reason="r")
            p.notify("goodbye", delay="1ms")
            p.send(8, (4101).to_bytes(2, "big"))

        def second(p: Peer) -> None:
            p.accept().register()
            over.set()
            p.hear()

        with Stage(first, second) as stage, Running(worker(stage.url, print)):
            over.wait()

    def test_stopping_waits_for_what_runs_and_then_stops_it(self) -> None:
        begun, heard = threading.Event(), []

        def handler(a: Attempt) -> None:
            begun.set()
            a.cancelled.wait()
            a.check()

        def play(p: Peer) -> None:
            p.accept().register()
            p.run("T")
            begun.wait()
            w.stop()
            heard.append(p.hear()["method"])
            failed = p.hear()
            heard.append(failed["params"]["error"]["code"])
            p.ok(failed)
            p.hear()

        with Stage(play) as stage:
            w = worker(stage.url, handler, drain_timeout=0.05)
            w.run()
        self.assertEqual(heard, ["drain", "drained"])

    def test_what_is_too_large_is_refused_before_it_is_sent(self) -> None:
        def play(p: Peer) -> None:
            p.accept().register()
            p.run("T")
            failed = p.hear()
            codes.append((failed["method"], failed["params"]["error"]["code"], failed["params"]["error"]["retryable"]))
            p.ok(failed)
            done.set()
            p.hear()

        for result, code in (("x" * 200_000, "payload_too_large"), (object(), "invalid_result"), (float("nan"), "invalid_result")):
            codes: list[Any] = []
            done = threading.Event()
            with self.subTest(code), Stage(play) as stage, Running(worker(stage.url, lambda a, r=result: r)):
                done.wait()
            self.assertEqual(codes, [("fail", code, False)])

    def test_a_fault_of_what_nobody_waited_for_is_raised_by_the_next(self) -> None:
        def handler(a: Attempt) -> None:
            a.output(1)
            a.output(2)
            a.checkpoint(3)  # answered behind both
            a.progress(1)

        def play(p: Peer) -> None:
            p.accept().register()
            p.run("T")
            p.no(p.hear(), "log_full", 429)  # which ends no work
            p.no(p.hear(), "invalid_params", 422)
            p.ok(p.hear())
            failed = p.hear()
            messages.append(failed["params"]["error"]["message"])
            p.ok(failed)
            done.set()
            p.hear()

        messages: list[str] = []
        done = threading.Event()
        with Stage(play) as stage, Running(worker(stage.url, handler)):
            done.wait()
        self.assertIn("invalid_params", messages[0])

    def test_nobody_there_is_said_at_once(self) -> None:
        with Stage() as stage:
            gone = stage.url
        with self.assertRaises(troupe.Unreachable):
            worker(gone, print).run()
        with self.assertRaises(ValueError):
            troupe.Worker(gone).run()
        with self.assertRaises(ValueError):
            worker(gone, print).task("k")(print)


class Real(unittest.TestCase):
    def setUp(self) -> None:
        self.client = troupe.Client(SERVER)
        self.addCleanup(self.client.close)
        self.worker = troupe.Worker(SERVER, slots=4, drain_timeout=5)

    def test_all_that_a_handler_may_say(self) -> None:
        @self.worker.task("py.all")
        def handler(a: Attempt) -> Any:
            if a.number == 1:
                a.progress(0.5, "half")
                a.log("hello", "warn", x=1)
                a.output({"n": 2**70})
                a.text("t")
                a.binary(b"\xff")
                a.checkpoint({"was": a.step("s", lambda: "once")})
                raise troupe.Failure("not yet", code="early", details={"d": 1})
            return [a.restored, a.step("s", lambda: "twice"), a.payload]

        with Running(self.worker):
            task = self.client.submit("py.all", {"p": 1}, retry={"initial": "1ms"})["id"]
            self.assertEqual(self.client.result(task), [{"was": "once"}, "once", {"p": 1}])
            events = list(self.client.follow(task))
        said = [e.data for e in events if e.type in ("progress", "output")]
        self.assertEqual(said, [{"fraction": 0.5, "message": "half"}, {"chunk": {"n": 2**70}}, {"text": "t"}, {"base64": "/w=="}])
        self.assertIn({"level": "warn", "message": "hello", "fields": {"x": 1}}, [e.data for e in events])
        error = self.client.get(task)["errors"][0]
        self.assertEqual((error["code"], error["message"]), ("early", "not yet"))

    def test_a_task_sleeps_and_waits_without_a_slot(self) -> None:
        worker = troupe.Worker(SERVER, slots=1)

        @worker.task("py.wait")
        def handler(a: Attempt) -> Any:
            a.sleep(1.2)
            try:
                a.wait("never", timeout=0)
            except TimeoutError:
                return a.wait("go")

        @worker.task("py.quick")
        def quick(a: Attempt) -> int:
            return a.number

        with Running(worker):
            task = self.client.submit("py.wait")["id"]
            for e in self.client.follow(task):
                if e.type == "state" and e.data["state"] == "blocked" and e.data["signal"] == "go":
                    self.assertEqual(self.client.result(self.client.submit("py.quick")["id"]), 1)
                    self.client.signal(task, "go", {"by": "ada"})
            self.assertEqual(self.client.result(task), {"by": "ada"})

    def test_cancel_timeout_and_errors_reach_both_sides(self) -> None:
        reasons: list[str] = []
        timed_out = threading.Event()

        @self.worker.task("py.long")
        def handler(a: Attempt) -> None:
            if a.payload == "raise":
                raise KeyError("k")
            try:
                a.text("begun")
                a.cancelled.wait()
                a.progress(1)
            except troupe.Cancelled as e:
                reasons.append(e.reason)
                if e.reason == "timeout":
                    timed_out.set()
                raise

        with Running(self.worker):
            task = self.client.submit("py.long")["id"]
            for e in self.client.follow(task):
                if e.type == "output":
                    self.client.cancel(task)
            self.assertEqual(e.data["state"], "cancelled")
            # An attempt's time may be over before it has come to the worker, so there are more.
            task = self.client.submit("py.long", timeout="50ms", retry={"initial": "1ms", "max": "1ms"}, max_attempts=1000)["id"]
            timed_out.wait()
            self.client.cancel(task)
            failures = []
            for payload, timeout in ((None, "50ms"), ("raise", "10m")):
                task = self.client.submit("py.long", payload, timeout=timeout, max_attempts=1)["id"]
                with self.assertRaises(troupe.Problem) as caught:
                    self.client.result(task)
                failures.append(caught.exception.failure)
        self.assertEqual((reasons[0], set(reasons)), ("cancelled", {"cancelled", "timeout"}))
        self.assertEqual([(f["code"], f["message"]) for f in failures][1], ("error", "KeyError: 'k'"))
        self.assertEqual(failures[0]["code"], "timeout")

    def test_over_a_kill_of_the_server_it_goes_on(self) -> None:
        @self.worker.task("py.through")
        def handler(a: Attempt) -> int:
            for i in range(20):
                a.output(i)
            return a.payload

        with Running(self.worker) as running:
            ids = self.client.submit_batch([{"kind": "py.through", "payload": i, "max_attempts": 100} for i in range(200)])["ids"]
            self.client.result(ids[20])
            control("kill")
            control("start")
            self.assertEqual([self.client.result(i) for i in ids], list(range(200)))
            self.assertIsNone(running.error)

    def test_sigterm_drains(self) -> None:
        code = """if True:
            import troupe
            worker = troupe.Worker(slots=2)

            @worker.task("py.term")
            def handler(attempt):
                attempt.log("begun")
                return attempt.sleep(0.5)

            worker.run()
            print("all done")
        """
        task = self.client.submit("py.term", max_attempts=1)["id"]
        with subprocess.Popen([sys.executable, "-W", "error", "-c", code], env={**os.environ, "TROUPE_SERVER": SERVER}, stdout=subprocess.PIPE, text=True) as process:
            for e in self.client.follow(task):
                if e.type == "log" and e.data["message"] == "begun":
                    process.send_signal(signal.SIGTERM)
            self.assertEqual(e.data["state"], "succeeded")
            out, _ = process.communicate()
            self.assertEqual((out, process.returncode), ("all done\n", 0))

    def test_a_wrong_key_is_refused_and_a_revoked_one_ends_what_it_does(self) -> None:
        calls = self.client._calls
        scopes = {"name": "n", "scopes": ["tasks:read", "tasks:write", "workers"]}
        made = calls.call("POST", "/v1/keys", exact.dumps(scopes)).json()
        client = troupe.Client(SERVER, made["key"])
        self.addCleanup(client.close)
        worker = worker_of(SERVER, made["key"])
        task = client.submit("demo.sleep", {"duration": "1h"})["id"]
        with Running(worker) as running:
            events = client.follow(task)
            next(events)  # it was let in
            calls.call("DELETE", f"/v1/keys/{made['id']}")
            with self.assertRaises(troupe.Problem) as caught:
                list(events)
            self.assertEqual((caught.exception.status, caught.exception.code), (401, "unauthorized"))
            running.join()
            self.assertEqual(running.error.status, 401)
        self.client.cancel(task)
        for act in (lambda: next(troupe.Client(SERVER, "trp_wrong").follow(task)), worker_of(SERVER, "trp_wrong").run):
            with self.assertRaises(troupe.Problem) as caught:
                act()
            self.assertEqual(caught.exception.status, 401)

    def test_over_tls(self) -> None:
        server = os.environ["TROUPE_TEST_TLS"]
        trusting = ssl.create_default_context(cafile=os.environ["TROUPE_TEST_CA"])
        worker = troupe.Worker(server, tls=trusting, slots=2)
        blob = "x" * 300_000

        @worker.task("py.tls")
        def handler(a: Attempt) -> str:
            for i in range(50):
                a.output(i)
            return a.payload

        with Running(worker), troupe.Client(server, tls=trusting) as client:
            tasks = [client.submit("py.tls", blob)["id"] for _ in range(4)]
            for task in tasks:
                self.assertEqual(sum(e.type == "output" for e in client.follow(task)), 50)
                self.assertEqual(client.result(task), blob)
        for make in (lambda: troupe.Client(server).get("x"), worker_of(server).run):
            with self.assertRaises(troupe.Unreachable):  # it is nobody whom we trust
                make()


def worker_of(server: str, key: str | None = None) -> troupe.Worker:
    w = troupe.Worker(server, key)
    w.task("k")(print)
    return w
