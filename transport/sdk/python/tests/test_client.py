import threading
import unittest
import unittest.mock
from datetime import timedelta
from decimal import Decimal

import troupe
from troupe import exact

from .world import SERVER, Script, answer, control, hang_up

TASK = b'{"id":"x","state":"queued"}'


class Scripted(unittest.TestCase):
    def test_a_lost_answer_never_makes_a_second_task(self) -> None:
        with Script(hang_up, answer(503), answer(201, TASK)) as script:
            task = troupe.Client(script.url).submit("k", 1, delay=5)
            bodies = [exact.loads(r.body) for r in script.requests]
        self.assertEqual(task["id"], "x")
        self.assertEqual(bodies, bodies[:1] * 3)
        self.assertNotIn("delay", bodies[0])
        self.assertRegex(bodies[0]["id"], "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab]")

    def test_a_batch_is_sent_again_as_itself(self) -> None:
        with Script(hang_up, answer(201, b'{"batch_id":"b","ids":["x"]}')) as script:
            troupe.Client(script.url).submit_batch([{"kind": "k"}], callback={"kind": "after"})
            first, second = script.requests
        self.assertEqual((first.path, first.body), (second.path, second.body))

    def test_a_connection_that_was_closed_meanwhile_is_opened_again(self) -> None:
        def last_one(h: object) -> None:
            answer(200, TASK)(h)
            h.close_connection = True  # without a word of it to the client

        with Script(last_one, answer(200, TASK)) as script, troupe.Client(script.url) as client:
            client.get("x")
            client.get("x")
            self.assertEqual(len({r.client_address for r in script.requests}), 2)

    def test_connections_are_used_again(self) -> None:
        with Script(answer(200, TASK)) as script, troupe.Client(script.url) as client:
            for _ in range(3):
                client.get("x")
            self.assertEqual(len({r.client_address for r in script.requests}), 1)

    def test_what_must_not_be_done_twice_is_not(self) -> None:
        with Script(answer(200, TASK), hang_up) as script, troupe.Client(script.url) as client:
            client.get("x")
            with self.assertRaises(troupe.Unreachable):
                client.retry("x")
            self.assertEqual(len(script.requests), 2)

    def test_a_refusal_is_a_problem(self) -> None:
        body = b'{"type":"/docs/problems#c","title":"T","status":422,"detail":"D.","code":"c","errors":[{"path":"p","message":"m"}],"request_id":"r"}'
        with Script(answer(422, body, Retry_After="3")) as script, self.assertRaises(troupe.Problem) as caught:
            troupe.Client(script.url).get("x")
        p = caught.exception
        self.assertEqual((p.type, p.status, p.code, p.request_id, p.retry_after), ("/docs/problems#c", 422, "c", "r", 3.0))
        self.assertEqual(str(p), "T: D.; p m (c)")

    def test_what_is_no_problem_document_is_one_all_the_same(self) -> None:
        for body in (b"<html>", b"[]", b"{}", b""):
            with self.subTest(body), Script(answer(404, body)) as script, self.assertRaises(troupe.Problem) as caught:
                troupe.Client(script.url).get("x")
            self.assertEqual((caught.exception.status, caught.exception.code), (404, "http_error"))

    def test_patience_ends(self) -> None:
        with Script(answer(503, b"", Retry_After="3600")) as script, self.assertRaises(troupe.Problem):
            troupe.Client(script.url).get("x")
        self.assertEqual(len(script.requests), 1)
        with Script(answer(429)) as script, self.assertRaises(troupe.Problem):
            troupe.Client(script.url).submit("k")
        self.assertEqual(len(script.requests), 1)

    def test_a_prefix_of_the_address_is_kept(self) -> None:
        with Script(answer(200, TASK)) as script:
            troupe.Client(script.url + "/under/").get("a b/c")
            self.assertEqual(script.requests[0].path, "/under/v1/tasks/a%20b%2Fc")

    def test_what_is_no_address(self) -> None:
        for bad in ("localhost:8080", "ftp://x", "http://", "http://u:p@h", "http://h?q"):
            with self.subTest(bad), self.assertRaises(ValueError):
                troupe.Client(bad)
        with self.assertRaises(ValueError):
            troupe.Client().get("")
        with self.assertRaises(ValueError):
            troupe.Client().submit_batch([{"kind": "k"}] * 10_001)

    def test_the_environment_names_server_and_key(self) -> None:
        with Script(answer(200, TASK)) as script:
            with unittest.mock.patch.dict("os.environ", TROUPE_SERVER=script.url, TROUPE_KEY="k"):
                client = troupe.Client()
            client.get("x")
            self.assertEqual(script.requests[0].headers["Authorization"], "Bearer k")
            self.assertNotIn("k'", repr(client).removeprefix(f"Client({script.url!r}"))

    def test_a_result_is_waited_for_over_many_requests(self) -> None:
        with Script(answer(202), hang_up, answer(202), answer(200, b"0.10000000000000000001")) as script:
            self.assertEqual(troupe.Client(script.url).result("x"), Decimal("0.10000000000000000001"))
        with Script(answer(202)) as script, self.assertRaises(TimeoutError):
            troupe.Client(script.url).result("x", wait=0)

    def test_a_silent_server_is_given_up(self) -> None:
        asked, over = threading.Event(), threading.Event()

        def silent(h: object) -> None:
            asked.set()
            over.wait()
            h.close_connection = True

        with Script(silent) as script:
            client = troupe.Client(script.url, timeout=0.05)
            with self.assertRaises(troupe.Unreachable):
                client.retry("x")
            asked.wait()
            over.set()


class Real(unittest.TestCase):
    def setUp(self) -> None:
        self.client = troupe.Client(SERVER)
        self.addCleanup(self.client.close)

    def test_a_payload_comes_back_as_it_was(self) -> None:
        payload = {"n": Decimal("0.1234567890123456789"), "i": 2**70, "t": "é\u2028\n", "l": [None, True, 1.5, {}]}
        self.assertEqual(self.client.result(self.client.submit("demo.echo", payload)["id"]), payload)

    def test_options_are_the_fields_of_a_task(self) -> None:
        task = self.client.submit(
            "demo.echo", 1, priority=3, labels={"k": "v"}, resources={"slots": 1}, timeout=timedelta(minutes=1), delay=3600
        )
        self.assertEqual((task["priority"], task["labels"], task["timeout"], task["state"]), (3, {"k": "v"}, "1m0s", "scheduled"))
        self.assertEqual([t["id"] for t in self.client.list(label={"k": "v"}, state="scheduled")], [task["id"]])
        self.assertIn("run at", self.client.explain(task["id"])["message"])
        self.assertEqual(self.client.cancel(task["id"], "enough")["state"], "cancelled")
        self.client.delete(task["id"])
        with self.assertRaises(troupe.Problem) as caught:
            self.client.get(task["id"])
        self.assertEqual(caught.exception.code, "task_not_found")
        with self.assertRaises(troupe.Problem) as caught:
            self.client.submit("demo.echo", nonsense=1)
        self.assertEqual(caught.exception.errors[0]["path"], "nonsense")

    def test_a_batch_and_its_callback(self) -> None:
        batch = self.client.submit_batch([{"kind": "demo.echo", "payload": i} for i in range(20)], callback={"kind": "demo.echo"})
        self.assertEqual([self.client.result(i) for i in batch["ids"]], list(range(20)))
        self.client.result(batch["callback"])
        self.assertTrue(self.client.batch(batch["batch_id"])["done"])
        self.assertEqual(self.client.cancel_batch(batch["batch_id"]), 0)
        self.assertEqual(len(list(self.client.list(batch_id=batch["batch_id"], limit=7))), 20)

    def test_a_failure_is_raised(self) -> None:
        task = self.client.submit("demo.flaky", {"failures": 1}, max_attempts=1)
        with self.assertRaises(troupe.Problem) as caught:
            self.client.result(task["id"])
        self.assertEqual(caught.exception.failure["code"], "flaky")
        self.client.retry(task["id"])
        self.client.result(task["id"])

    def test_a_wait_ends(self) -> None:
        task = self.client.submit("demo.sleep", {"duration": "1h"})
        with self.assertRaises(TimeoutError):
            self.client.result(task["id"], wait=0.1)
        self.client.cancel(task["id"])

    def test_a_signal_arrives(self) -> None:
        task = self.client.submit("demo.steps", {"wait_for": "go"})
        self.client.signal(task["id"], "go", {"by": "ada"})
        self.assertEqual(self.client.result(task["id"])["signal"], {"by": "ada"})

    def test_calls_wait_for_a_server_that_restarts(self) -> None:
        task = self.client.submit("demo.sleep", {"duration": "300ms"}, max_attempts=100)
        control("kill")
        starter = threading.Thread(target=control, args=("start",))
        starter.start()
        # The first call finds nobody, and a server that was never reached is told at once.
        try:
            self.client.get(task["id"])
        except troupe.Unreachable:
            pass
        starter.join()
        self.assertIsNotNone(self.client.result(task["id"]))

    def test_many_threads_may_use_it(self) -> None:
        results: list[object] = []
        threads = [
            threading.Thread(target=lambda i=i: results.append(self.client.result(self.client.submit("demo.echo", i)["id"])))
            for i in range(16)
        ]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(sorted(results), list(range(16)))
