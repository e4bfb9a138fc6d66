"""What a run of the suite brought: per test a state, per failure a log, per SIG the counts."""
import collections
import datetime
import os
import re
import shutil

import suite

PASSED = "passed"


class Results:
    def __init__(self, report, tests, server_log):
        self.specs = {suite.full_name(spec): spec for spec in suite.specs(report)}
        self.tests, self.server_log = tests, server_log

    def state(self, name):
        return self.specs[name]["State"] if name in self.specs else "not run"

    @property
    def passed(self):
        return [name for name in self.tests if self.state(name) == PASSED]

    @property
    def not_passed(self):
        return [name for name in self.tests if self.state(name) != PASSED]

    def write(self, directory):
        """A log for each test that ran and did not pass, and the list of them."""
        failures = os.path.join(directory, "failures")
        shutil.rmtree(failures, ignore_errors=True)
        os.makedirs(failures)
        log = ServerLog(self.server_log)
        for name in self.not_passed:
            if name in self.specs:
                file_name = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:180] + ".log"
                with open(os.path.join(failures, file_name), "w") as file:
                    file.write(failure(name, self.specs[name], log))
        for state, chosen in [("passed", self.passed), ("not-passed", self.not_passed)]:
            with open(os.path.join(directory, state + ".txt"), "w") as file:
                file.writelines(name + "\n" for name in chosen)

    def summary(self, total):
        counts = collections.defaultdict(collections.Counter)
        for name in self.tests:
            for row in (sig(name), "all"):
                counts[row][self.state(name) if self.state(name) in (PASSED, "skipped", "not run") else "failed"] += 1
        columns = (PASSED, "failed", "skipped", "not run")
        lines = [f"{'':28}" + "".join(f"{column:>9}" for column in columns)]
        for row in sorted(counts, key=lambda row: (row == "all", row)):
            lines.append(f"{row:28}" + "".join(f"{counts[row][column]:9}" for column in columns))
        lines.append(f"{counts['all'][PASSED]} of upstream's {total} conformance tests passed (images rebuilt); {total - len(self.tests)} were not chosen")
        return "\n".join(lines)


def sig(name):
    found = re.match(r"\[(sig-[a-z-]+)\]", name)
    return found.group(1) if found else "no sig"


def moment(text):
    """Seconds of an RFC 3339 time, which ginkgo writes with nanoseconds and a zone."""
    text = re.sub(r"(\.\d{6})\d+", r"\1", text.replace("Z", "+00:00"))
    return datetime.datetime.fromisoformat(text).timestamp()


def failure(name, spec, log):
    found = spec.get("Failure") or {}
    location = found.get("Location") or {}
    parts = [name, f"{spec['State']} from {spec['StartTime']} to {spec['EndTime']}", found.get("Message", ""),
             f"{location.get('FileName', '')}:{location.get('LineNumber', '')}", "--- the test's output", spec.get("CapturedGinkgoWriterOutput", ""),
             "--- the server's log of the same seconds", *log.between(moment(spec["StartTime"]), moment(spec["EndTime"]))]
    return "\n".join(parts) + "\n"


class ServerLog:
    """The server's log; a line without a time belongs to the line before it."""

    def __init__(self, path):
        self.lines, time = [], 0.0
        if path and os.path.exists(path):
            with open(path, errors="replace") as file:
                for line in file:
                    found = re.match(r"(\d{4}-\d\d-\d\dT[\d:.]+Z)", line)
                    time = moment(found.group(1)) if found else time
                    self.lines.append((time, line.rstrip("\n")))

    def between(self, begin, end):
        return [line for time, line in self.lines if begin - 1 <= time <= end + 1]


def names(path):
    with open(path) as file:
        return [line.rstrip("\n") for line in file if line.strip()]


def record(path, passed):
    """Adds the names of `passed` to the sorted list at `path`."""
    known = names(path) if os.path.exists(path) else []
    with open(path, "w") as file:
        file.writelines(name + "\n" for name in sorted({*known, *passed}))
