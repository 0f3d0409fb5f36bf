import threading
import unittest
import unittest.mock

import troupe

from .world import SERVER, Script, answer, control, event, hang_up, stream

PROBLEM = b'{"type":"","title":"T","status":%d,"code":"%s"}'


def cursors(*plays: object, after: str | None = None) -> tuple[list[str], list[str | None]]:
    """What a follower of a script gets, and what it asked to go on behind."""
    with Script(*plays) as script:
        got = [e.cursor for e in troupe.Client(script.url).follow("t", after)]
        return got, [r.headers["Last-Event-ID"] for r in script.requests]


class Scripted(unittest.TestCase):
    def test_goes_on_behind_the_last_whole_event(self) -> None:
        half = event("1.2")
        got, asked = cursors(
            stream(event("0.1", "queued"), event("1.1"), half[: len(half) // 2], broken=True),
            hang_up,
            stream(event("1.1"), event("1.2"), event("1.3", "succeeded")),
        )
        self.assertEqual(got, ["0.1", "1.1", "1.2", "1.3"])
        self.assertEqual(asked, [None, "1.1", "1.1"])

    def test_an_end_in_the_log_is_not_the_end_while_the_server_goes_on(self) -> None:
        got, asked = cursors(
            stream(event("1.1", "failed"), "retry: 1\n\n"),
            stream(event("2.1", "queued"), event("2.2", "succeeded")),
        )
        self.assertEqual((got, asked), (["1.1", "2.1", "2.2"], [None, "1.1"]))

    def test_nothing_behind_the_end_is_an_end(self) -> None:
        self.assertEqual(cursors(answer(204), after="1.9"), ([], ["1.9"]))
        got, _ = cursors(stream(event("1.1", "failed"), broken=True), answer(204))
        self.assertEqual(got, ["1.1"])

    def test_a_stream_that_ends_without_an_end_is_opened_again(self) -> None:
        got, asked = cursors(stream(": following\n\n"), stream(event("1.1", "cancelled")))
        self.assertEqual((got, asked), (["1.1"], [None, None]))

    def test_busy_servers_are_asked_again(self) -> None:
        for status in (429, 500, 502, 503):
            with self.subTest(status):
                got, _ = cursors(answer(status, b"", Retry_After="0"), stream(event("1.1", "failed")))
                self.assertEqual(got, ["1.1"])

    def test_retry_after_is_honoured(self) -> None:
        waits: list[float] = []
        with Script(answer(429, b"", Retry_After="7"), stream("retry: 3000\n\n"), stream(event("1.1", "failed"))) as script:
            with unittest.mock.patch("time.sleep", waits.append):
                list(troupe.Client(script.url).follow("t"))
        self.assertTrue(7 <= waits[0] <= 12 and 3 <= waits[1] <= 8, waits)

    def test_refusals_end_it(self) -> None:
        for status, code in ((401, b"unauthorized"), (403, b"forbidden"), (404, b"task_not_found"), (409, b"cursor_ahead")):
            with self.subTest(status), self.assertRaises(troupe.Problem) as caught:
                cursors(answer(status, PROBLEM % (status, code)))
            self.assertEqual((caught.exception.status, caught.exception.code.encode()), (status, code))

    def test_a_gap_is_said_and_moves_no_cursor(self) -> None:
        gap = 'event: gap\ndata: {"first":"2.1"}\n\n'
        with Script(stream(gap, broken=True), stream(gap, event("2.1", "failed"))) as script:
            got = list(troupe.Client(script.url).follow("t", "1.1"))
            self.assertEqual([r.headers["Last-Event-ID"] for r in script.requests], ["1.1", "1.1"])
        self.assertEqual([(e.type, e.cursor) for e in got], [("gap", "1.1"), ("gap", "1.1"), ("state", "2.1")])
        self.assertEqual(got[0].data, {"first": "2.1"})

    def test_nobody_there_is_said_at_once(self) -> None:
        with Script(hang_up) as script:
            gone = script.url
        with self.assertRaises(troupe.Unreachable):
            next(troupe.Client(gone).follow("t"))

    def test_the_key_is_sent(self) -> None:
        with Script(stream(event("1.1", "failed"))) as script:
            list(troupe.Client(script.url, "trp_secret").follow("t"))
            self.assertEqual(script.requests[0].headers["Authorization"], "Bearer trp_secret")


class Real(unittest.TestCase):
    def setUp(self) -> None:
        self.client = troupe.Client(SERVER)
        self.addCleanup(self.client.close)

    def test_over_kills_nothing_is_missing_and_nothing_comes_twice(self) -> None:
        kills, chunks = 0, 400
        while kills < 3:  # one that ends before its server is killed is too short for this machine
            task = self.client.submit("demo.stream", {"chunks": chunks, "interval": "2ms"}, max_attempts=100)["id"]
            chunks *= 2
            seen: list[troupe.Event] = []
            killer = threading.Thread()
            for e in self.client.follow(task):
                seen.append(e)
                if e.type == "output" and e.data["chunk"]["i"] == 30 and kills < 3:
                    kills += 1
                    killer.join() if killer.ident else None
                    killer = threading.Thread(target=lambda: (control("kill"), control("start")))
                    killer.start()
            killer.join() if killer.ident else None
            self.assertTrue(seen[-1].terminal)
            self.check_against_the_log(task, seen)

    def check_against_the_log(self, task: str, seen: list[troupe.Event]) -> None:
        """What was seen is what is stored, but for the last words of attempts that died with the server."""
        last = (0, 0)
        for e in seen:
            attempt, number = map(int, e.cursor.split("."))
            following = number == last[1] + 1 if attempt == last[0] else attempt > last[0] and number == 1
            self.assertTrue(following, f"{e.cursor} came behind {last}")
            last = attempt, number
        stored = {e.cursor: e for e in self.client.events(task)}
        for e in seen:
            if e.cursor in stored:
                self.assertEqual(stored.pop(e.cursor), e)
            else:
                self.assertLess(int(e.cursor.split(".")[0]), last[0], f"{e.cursor} is not in the log")
                self.assertEqual(e.type, "output")
        self.assertEqual(stored, {}, "events that were not seen")

    def test_a_slow_reader_misses_nothing(self) -> None:
        task = self.client.submit("demo.stream", {"chunks": 5000, "interval": "0s", "size": 1024})["id"]
        events = self.client.follow(task)
        seen = [next(events)]
        self.assertEqual(self.client.result(task), {"chunks": 5000})  # it has ended, and nothing was read
        seen += events
        self.check_against_the_log(task, seen)
        self.assertEqual(sum(e.type == "output" for e in seen), 5000)

    def test_from_each_cursor_it_is_the_rest(self) -> None:
        task = self.client.submit("demo.stream", {"chunks": 3, "interval": "1ms"})["id"]
        all_of_it = list(self.client.follow(task))
        self.assertEqual([e.cursor for e in all_of_it], ["0.1", "1.1", "1.2", "1.3", "1.4", "1.5"])
        for i, e in enumerate(all_of_it):
            self.assertEqual(list(self.client.follow(task, e.cursor)), all_of_it[i + 1 :])

    def test_a_cursor_ahead_is_refused(self) -> None:
        task = self.client.submit("demo.echo", 1)["id"]
        self.client.result(task)
        with self.assertRaises(troupe.Problem) as caught:
            list(self.client.follow(task, "9.1"))
        self.assertEqual(caught.exception.code, "cursor_ahead")

    def test_a_task_that_began_anew_is_followed_to_its_last_end(self) -> None:
        task = self.client.submit("demo.flaky", {"failures": 1}, max_attempts=1)["id"]
        self.assertEqual([e.data["state"] for e in self.client.follow(task) if e.terminal], ["failed"])
        self.client.retry(task)
        self.assertEqual([e.data["state"] for e in self.client.follow(task) if e.terminal], ["failed", "succeeded"])
