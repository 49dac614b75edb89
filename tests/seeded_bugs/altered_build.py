# SPDX-License-Identifier: MIT
"""Build a test program with one altered source file, fast: compile that file with the command
that the build directory has for it, and link the program with the object in front of the
library, whose own member of that name is then left out. One compiler run and one linker run
instead of a build; the build directory is only read."""
import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import tempfile

# Large blocks come and go with every simulated disk: keep them instead of mapping each anew.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "1000000000", "MALLOC_TRIM_THRESHOLD_": "2000000000"}
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # failed checks abort; nobody reads what they leave


class AlteredBuild:
    def __init__(self, root, directory):
        self.root, self.directory = root, directory
        with open(os.path.join(directory, "compile_commands.json"), encoding="utf-8") as file:
            # Tests may compile a source of the library in ways of their own.
            self.compilers = {os.path.normpath(os.path.join(entry["directory"], entry["file"])): entry["command"]
                              for entry in json.load(file) if "libtinykv." in entry["output"]}
        targets = subprocess.run(["ninja", "-C", directory, "-t", "targets", "all"], check=True,
                                 capture_output=True, text=True).stdout
        self.programs = {}
        for line in targets.splitlines():
            target, _, rule = line.partition(": ")
            if rule.strip() == "c_LINKER":
                self.programs.setdefault(os.path.basename(target), target)
        self.linkers = {}

    def program(self, name):
        return os.path.join(self.directory, self.programs[name])

    def link_command(self, name):
        if name not in self.linkers:
            lines = subprocess.run(["ninja", "-C", self.directory, "-t", "commands", self.programs[name]],
                                   check=True, capture_output=True, text=True).stdout
            self.linkers[name] = shlex.split(lines.splitlines()[-1])
        return list(self.linkers[name])

    def compile(self, source, text, place, more_flags=()):
        """Write `text` as a copy of `source` into the directory `place` and compile it.
        Returns (object, None), or (None, what the compiler said)."""
        copy = os.path.join(place, os.path.basename(source))
        out = copy[:-2] + ".o"
        with open(copy, "w", encoding="utf-8") as file:
            file.write(text)
        command = shlex.split(self.compilers[os.path.join(self.root, source)])
        command[command.index("-o") + 1] = out
        command[command.index("-c") + 1] = copy
        command[command.index("-MF") + 1] = out + ".d"
        command = [word for word in command if word != "-Werror"] + ["-w", *more_flags]
        done = subprocess.run(command, cwd=self.directory, capture_output=True, text=True, check=False)
        return (out, None) if done.returncode == 0 else (None, done.stderr)

    def link(self, name, altered_object):
        """The program `name`, beside the object."""
        out = os.path.join(os.path.dirname(altered_object), name)
        command = self.link_command(name)
        at = command.index("-o")
        command[at + 1] = out
        command.insert(at + 2, altered_object)
        subprocess.run(command, cwd=self.directory, capture_output=True, check=True)
        return out


def wait_for(process, seconds):
    """Its output, or None when it takes longer. Counted in steps in which this process ran too:
    a machine that was stopped meanwhile is no timeout."""
    step = 0.25
    for _ in range(int(seconds / step) + 1):
        try:
            return process.communicate(timeout=step)[0]
        except subprocess.TimeoutExpired:
            pass
    return None


def run_check(program, arguments, seconds):
    """Run it in a scratch directory of its own. Returns (outcome, output); the outcome is
    "passed", "failed" or "timeout"."""
    scratch = tempfile.mkdtemp(prefix="tinykv-check-")
    process = subprocess.Popen([program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               cwd=scratch, env=dict(os.environ, TMPDIR=scratch, **MALLOC), start_new_session=True)
    try:
        output = wait_for(process, seconds)
        if output is None:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            outcome = "timeout"
        else:
            outcome = "passed" if process.returncode == 0 else "failed"
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)  # children that outlived a failed check
        except ProcessLookupError:
            pass
        shutil.rmtree(scratch, ignore_errors=True)
    return outcome, output.decode("utf-8", "replace")
