"""Runs the tests and says of each, in a line of JSON, how it ended."""

from __future__ import annotations

import json
import sys
import unittest


class Verdicts(unittest.TestResult):
    """Prints a line for every test, with whatever went wrong in it."""

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self.faults: list[str] = []

    def addError(self, test: unittest.TestCase, err: object) -> None:
        super().addError(test, err)
        self._fault(test, self.errors[-1][1])

    def addFailure(self, test: unittest.TestCase, err: object) -> None:
        super().addFailure(test, err)
        self._fault(test, self.failures[-1][1])

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: object) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.faults.append(f"{subtest}\n{self._exc_info_to_string(err, test)}")

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        skipped = [why for skipped, why in self.skipped if skipped is test]
        outcome = "failed" if self.faults else "skipped" if skipped else "passed"
        say(test.id().removeprefix("tests."), outcome, "\n".join(self.faults + skipped))

    def _fault(self, test: unittest.TestCase, text: str) -> None:
        if isinstance(test, unittest.TestCase):
            self.faults.append(text)
        else:  # what a whole module or class needs
            say(str(test), "failed", text)


def say(test: str, outcome: str, text: str) -> None:
    """Print a verdict."""
    print(json.dumps({"test": test, "outcome": outcome, "text": text}), flush=True)


if __name__ == "__main__":
    result = Verdicts()
    unittest.defaultTestLoader.discover("tests", top_level_dir=".").run(result)
    sys.exit(not result.wasSuccessful())
