import json
import random
import unittest
from datetime import datetime, timedelta, timezone
from decimal import Decimal

from troupe import durations, exact


class Numbers(unittest.TestCase):
    def test_each_digit_comes_back(self) -> None:
        for text in ("0", "-1", "9007199254740993", "1" * 5000, "0.1", "1e400", "0.1234567890123456789", "-0.0", "1E-7"):
            with self.subTest(text[:30]):
                again = exact.dumps(exact.loads(text))
                self.assertEqual(Decimal(again.decode()), Decimal(text))

    def test_a_float_stays_one_where_it_is_exact(self) -> None:
        self.assertIs(type(exact.loads("0.1")), float)
        self.assertIs(type(exact.loads("0.10000000000000000001")), Decimal)

    def test_any_value_comes_back(self) -> None:
        chance = random.Random(1)

        def value(depth: int) -> object:
            match chance.randrange(8 if depth else 6):
                case 0:
                    return chance.choice([None, True, False])
                case 1:
                    return chance.randrange(-(10**30), 10**30)
                case 2:
                    return chance.uniform(-1e6, 1e6)
                case 3:
                    return Decimal(chance.randrange(10**40)).scaleb(-chance.randrange(60))
                case 4 | 5:
                    return "".join(chr(chance.randrange(0x20, 0x3000)) for _ in range(chance.randrange(9))) + '"\\\n'
                case 6:
                    return [value(depth - 1) for _ in range(chance.randrange(5))]
            return {str(value(0)): value(depth - 1) for _ in range(chance.randrange(5))}

        for _ in range(500):
            made = value(4)
            raw = exact.dumps(made)
            self.assertEqual(exact.loads(raw), made)
            json.loads(raw)

    def test_what_json_cannot_say_is_refused(self) -> None:
        for bad in (float("nan"), float("inf"), Decimal("NaN"), [Decimal("Infinity")]):
            with self.subTest(bad), self.assertRaises(ValueError):
                exact.dumps(bad)
        for bad in (b"", {Decimal(1): object()}, [Decimal(1), object()], object()):
            with self.subTest(bad), self.assertRaises(TypeError):
                exact.dumps(bad)
        with self.assertRaises(ValueError):
            exact.loads("NaN")

    def test_names_and_halves_of_characters(self) -> None:
        self.assertEqual(exact.dumps({1: 2, "a": Decimal("1.5")}), b'{"1":2,"a":1.5}')
        self.assertEqual(exact.loads(exact.dumps("\ud800é")), "\ud800é")


class Durations(unittest.TestCase):
    def test_are_read_as_go_writes_them(self) -> None:
        for text, want in (("0", 0), ("0s", 0), ("1.5s", 1.5), ("1h30m0s", 5400), ("-2ms", -0.002), ("15µs", 15e-6), (".5h", 1800)):
            self.assertAlmostEqual(durations.seconds(text), want, places=12, msg=text)
        for text in ("", "5", "s", "1.5 s", "1s ", "1d", "--1s", "1h-3m"):
            with self.subTest(text), self.assertRaises(ValueError):
                durations.seconds(text)

    def test_are_written_as_go_reads_them(self) -> None:
        for value, want in ((0, "0s"), (1.5, "1.5s"), (timedelta(days=1), "86400s"), (-0.000001, "-0.000001s"), ("30m", "30m")):
            self.assertEqual(durations.written(value), want)

    def test_times_have_a_zone(self) -> None:
        at = datetime(2026, 1, 2, 3, 4, 5, 6, timezone(timedelta(hours=2)))
        self.assertEqual(durations.written(at), "2026-01-02T01:04:05.000006Z")
        with self.assertRaises(ValueError):
            durations.written(datetime(2026, 1, 1))
