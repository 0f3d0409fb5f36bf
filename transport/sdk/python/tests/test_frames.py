import random
import struct
import unittest

from troupe import frames
from troupe.frames import Close, Malformed, Op, Ping, Reader


def frame(op: int, data: bytes, fin: bool = True, head: int = 0) -> bytes:
    """A frame as a server writes it: not masked."""
    size = len(data)
    length = bytes([size]) if size < 126 else b"\x7e" + struct.pack("!H", size) if size < 1 << 16 else b"\x7f" + struct.pack("!Q", size)
    return bytes([fin << 7 | head | op]) + length + data


def read(data: bytes, most: int = 1 << 20, step: int = 0) -> list[object]:
    """What a reader makes of bytes that come in steps."""
    reader, got = Reader(most), []
    for i in range(0, len(data), step or len(data) or 1):
        reader.feed(data[i : i + (step or len(data))])
        got += reader.messages()
    return got


class Reading(unittest.TestCase):
    def test_messages_of_every_size_come_in_any_pieces(self) -> None:
        for size in (0, 1, 125, 126, 127, 65535, 65536, 100_000):
            text = "é" * (size // 2) + "a" * (size % 2)
            for step in (0, 1, 7) if size < 1000 else (0, 1000):
                with self.subTest(size=size, step=step):
                    self.assertEqual(read(frame(1, text.encode()), step=step), [text])

    def test_parts_are_put_together_around_control_frames(self) -> None:
        raw = "hé".encode()
        data = frame(1, raw[:2], False) + frame(9, b"?") + frame(0, b"", False) + frame(10, b"") + frame(0, raw[2:])
        self.assertEqual(read(data, step=1), [Ping(b"?"), "hé"])

    def test_a_close_says_why(self) -> None:
        self.assertEqual(read(frame(8, b"")), [Close(1005, "")])
        self.assertEqual(read(frame(8, struct.pack("!H", 4101) + b"bye") + frame(1, b"x")), [Close(4101, "bye")])

    def test_what_breaks_the_rules_is_refused(self) -> None:
        code = struct.Struct("!H").pack
        for name, want, data in (
            ("a reserved bit", 1002, frame(1, b"a", head=0x40)),
            ("a code that is none", 1002, frame(3, b"")),
            ("a control code that is none", 1002, frame(11, b"")),
            ("masked", 1002, b"\x81\x81aaaab"),
            ("a long ping", 1002, frame(9, b"a" * 126)),
            ("a ping in parts", 1002, frame(9, b"", False)),
            ("a part of nothing", 1002, frame(0, b"a")),
            ("a message within another", 1002, frame(1, b"a", False) + frame(1, b"b")),
            ("a longer length than needed", 1002, b"\x81\x7e\x00\x05hello"),
            ("a much longer length than needed", 1002, b"\x81\x7f" + struct.pack("!Q", 65535)),
            ("a length beyond all", 1002, b"\x81\x7f" + struct.pack("!Q", 1 << 63)),
            ("binary", 1003, frame(2, b"a")),
            ("not UTF-8", 1007, frame(1, b"\xff")),
            ("half a character", 1007, frame(1, "é".encode()[:1])),
            ("not UTF-8, known before its end", 1007, frame(1, b"\xff", False)),
            ("half of a pair", 1007, frame(1, b"\xed\xa0\x80")),
            ("too large", 1009, frame(1, b"a" * 101)),
            ("too large in parts", 1009, frame(1, b"a" * 60, False) + frame(0, b"a" * 41)),
            ("too large, known from its head", 1009, b"\x81\x7f" + struct.pack("!Q", 1 << 40)),
            ("half a close code", 1002, frame(8, b"a")),
            ("a close code nobody sends", 1002, frame(8, code(1005))),
            ("a close code of nobody", 1002, frame(8, code(2000))),
            ("a reason that is not UTF-8", 1007, frame(8, code(1000) + b"\xff")),
        ):
            with self.subTest(name), self.assertRaises(Malformed) as caught:
                read(data, most=100)
            self.assertEqual(caught.exception.code, want, name)

    def test_noise_is_refused_or_waited_for(self) -> None:
        chance = random.Random(7)
        for _ in range(20_000):
            noise = bytearray(chance.randbytes(chance.randrange(40)))
            if noise and chance.random() < 0.8:
                noise[0] = chance.choice([0x81, 0x01, 0x80, 0x88, 0x89])
                if len(noise) > 1:
                    noise[1] &= 0x0F
            try:
                for message in read(bytes(noise), most=1000):
                    self.assertIsInstance(message, (str, Ping, Close))
            except Malformed as e:
                self.assertIn(e.code, (1002, 1003, 1007, 1009))


class Writing(unittest.TestCase):
    def unmask(self, data: bytes) -> bytes:
        """Frames as a server would write them."""
        out, at = b"", 0
        while at < len(data):
            self.assertTrue(data[at + 1] & 0x80, "not masked")
            size, start = data[at + 1] & 0x7F, at + 2
            if size >= 126:
                width = 2 if size == 126 else 8
                size, start = int.from_bytes(data[start : start + width], "big"), start + width
            mask, body = data[start : start + 4], data[start + 4 : start + 4 + size]
            out += frame(data[at] & 0x0F, bytes(b ^ mask[i % 4] for i, b in enumerate(body)), bool(data[at] & 0x80))
            at = start + 4 + size
        return out

    def test_what_is_written_is_read(self) -> None:
        for size in (0, 1, 5, 125, 126, 65535, 65536, 65537, 200_001):
            text = ("Größe" * size)[:size]
            with self.subTest(size):
                sent = list(frames.text(text.encode()))
                self.assertEqual(len(sent), max(1, -(-len(text.encode()) // 65536)))
                self.assertEqual(read(self.unmask(b"".join(sent))), [text])

    def test_control_frames_are_short(self) -> None:
        self.assertEqual(read(self.unmask(frames.close(4000, "x" * 500))), [Close(4000, "x" * 120)])
        self.assertEqual(read(self.unmask(frames.encode(Op.PING, b"p"))), [Ping(b"p")])
