"""Upstream's suite: builds it, lists its conformance tests, runs them."""
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))


def build():
    """The directory of upstream's programs; the first time on a machine this takes minutes."""
    return subprocess.run([os.path.join(HERE, "../upstream/build"), "e2e.test", "ginkgo", "kubectl"],
                          check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def names(programs):
    """The full names of all conformance tests, sorted."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "report.json")
        subprocess.run([os.path.join(programs, "e2e.test"), "--ginkgo.dry-run", "--ginkgo.focus", r"\[Conformance\]", "--ginkgo.silence-skips",
                        "--ginkgo.json-report", path], check=True, capture_output=True, text=True)
        return sorted(full_name(spec) for spec in specs(path) if spec["State"] == "passed")


def specs(path):
    """The tests of a JSON report, without the suite's own set-up."""
    with open(path) as file:
        return [spec for suite in json.load(file) for spec in suite["SpecReports"] or [] if spec["LeafNodeType"] == "It"]


def full_name(spec):
    return " ".join([*(spec["ContainerHierarchyTexts"] or []), spec["LeafNodeText"]])


def run(programs, tests, kubeconfig, inside, procs, results):
    """Runs `tests`; gives the path of the JSON report. `inside` is the command that enters the cluster's network."""
    report = os.path.join(results, "report.json")
    if os.path.exists(report):
        os.remove(report)
    focus = "^[^\\[]*(" + "|".join(re.escape(name).replace("\\ ", " ") for name in tests) + ")$"
    scratch = tempfile.TemporaryDirectory(prefix="coracle-conformance-")
    command = [
        *inside, os.path.join(programs, "ginkgo"), "run", f"--procs={procs}", "-v", "--no-color", "--silence-skips", "--timeout=12h", "--grace-period=30s",
        f"--output-dir={results}", "--json-report=report.json", "--junit-report=junit.xml", f"--focus={focus}",
        os.path.join(programs, "e2e.test"), "--", f"--kubeconfig={kubeconfig}", "--provider=local",
        f"--kubectl-path={os.path.join(programs, 'kubectl')}", "--disable-log-dump", f"--e2e-output-dir={scratch.name}",
        "--node-os-distro=debian", f"--node-os-arch={'arm64' if os.uname().machine == 'aarch64' else 'amd64'}"]
    with scratch, open(os.path.join(results, "output.log"), "w") as output:
        # In a group of its own: a terminal's interrupt reaches ginkgo once, from here.
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", cwd=scratch.name,
                                   start_new_session=True, env={**os.environ, "TMPDIR": scratch.name})
        try:
            follow(process.stdout, output, len(tests))
            process.wait()
        finally:
            end(process)
    if not os.path.exists(report):
        with open(os.path.join(results, "output.log")) as file:
            raise OSError("ginkgo wrote no report:\n" + file.read()[-4000:])
    return report


def follow(lines, output, count):
    """Copies ginkgo's output into a file and shows a line of progress for each test that ends."""
    begin, done, failed, ended = time.monotonic(), 0, 0, None
    for line in lines:
        output.write(line)
        output.flush()
        if ended is not None and line.strip():
            minutes = (time.monotonic() - begin) / 60
            print(f"{done:3}/{count} {failed} failed {minutes:5.1f} min  {ended:9} {line.strip()[:150]}", flush=True)
            ended = None
        elif line.startswith("• "):
            done += 1
            state = re.match(r"• \[([A-Z]+)", line)
            ended = state.group(1).lower() if state else "passed"
            failed += ended != "passed"


def end(process):
    """Ends ginkgo and every process of it: first asked, so that tests clean up, then not."""
    for how, seconds in [(signal.SIGINT, 45), (signal.SIGKILL, 10)]:
        if process.poll() is None:
            print("ending the suite", file=sys.stderr)
            os.killpg(process.pid, how)
            try:
                # Its output has to flow for it to end.
                process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                continue
