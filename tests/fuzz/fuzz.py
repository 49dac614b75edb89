#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""./run fuzz: build the fuzz targets and run them, one after the other or --jobs at a time.

    --seconds S     for all targets together, shared out by the weights below (60)
    --runs N        executions of each target instead of a time
    --target NAME   this one only; may be given more than once
    --engine NAME   libfuzzer (default) or afl
    --jobs N        targets at the same time (1)
    --merge         rebuild the seed corpora from what the runs have found, and stop

What is new goes to build-fuzz/corpus/TARGET, a finding to build-fuzz/findings/TARGET, made
smaller, with the command that repeats it. The last line is
`targets=N executions=N findings=N seconds=S`; with findings the exit code is 1."""
import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

# name -> share of the time, longest input
TARGETS = {
    "batch": (3, 1024),
    "command": (2, 256),
    "data_file": (5, 6144),
    "directory": (22, 256),
    "file_name": (2, 64),
    "hint": (5, 2048),
    "inflate": (4, 2048),
    "lines": (2, 512),
    "load": (6, 512),
    "manifest": (6, 1024),
    "operations": (22, 192),
    "options": (2, 128),
    "record": (9, 1024),
    "wal": (10, 6144),
}
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SEEDS = os.path.join(HERE, "corpus")
# Stacks of allocations and a long quarantine cost half of the speed; memory.c finds leaks.
ASAN_OPTIONS = "malloc_context_size=0:quarantine_size_mb=8:detect_leaks=0:abort_on_error=1"
MINIMISE_SECONDS = 20
KEPT_MAX = 48  # seeds of one target


def say(text):
    print(text, flush=True)


def run(command, log=None, **options):
    environment = dict(os.environ, ASAN_OPTIONS=ASAN_OPTIONS + ":symbolize=" +
                       ("0" if "afl-fuzz" in command[0] else "1"))
    environment.update(AFL_NO_UI="1", AFL_SKIP_CPUFREQ="1", AFL_NO_AFFINITY="1",
                       AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES="1")
    return subprocess.run(command, env=environment, stdout=log, stderr=subprocess.STDOUT,
                          check=False, **options).returncode


def build(engine):
    """Every target in a directory of its own; nothing when all is up to date."""
    directory = os.path.join(ROOT, "build-fuzz" if engine == "libfuzzer" else "build-afl")
    compiler = "clang" if engine == "libfuzzer" else "afl-clang-fast"
    log_path = directory + ".log"
    with open(log_path, "w", encoding="utf-8") as log:
        code = 0
        if not os.path.exists(os.path.join(directory, "build.ninja")):
            code = subprocess.run(
                ["meson", "setup", directory, "-Dfuzz=true", "-Db_lundef=false", "-Dtools=false",
                 "-Dexamples=false", "-Dbench=false"], cwd=ROOT, env=dict(os.environ, CC=compiler),
                stdout=log, stderr=subprocess.STDOUT, check=False).returncode
        if code == 0:
            code = run(["ninja", "-C", directory, "fuzz"], log)
    if code != 0:
        sys.exit(f"fuzz: the targets do not build, see {log_path}")
    os.remove(log_path)
    return directory


def prepare(directory, kind, name):
    path = os.path.join(directory, kind, name)
    os.makedirs(path, exist_ok=True)
    return path


def files_in(path):
    return sorted(os.path.join(path, name) for name in os.listdir(path)) if os.path.isdir(path) else []


def seeds_of(name):
    path = os.path.join(SEEDS, name)
    return [path] if os.path.isdir(path) else []


# ---- libFuzzer -------------------------------------------------------------------------------


def options_for(name):
    dictionary = os.path.join(HERE, "dictionaries", name + ".dict")
    return ([f"-max_len={TARGETS[name][1]}", "-timeout=20", "-rss_limit_mb=4096", "-reload=0", "-entropic=0",
             "-report_slow_units=600"] +
            ([f"-dict={dictionary}"] if os.path.exists(dictionary) else []))


def minimise(program, finding):
    """Returns the smallest input that was found to do the same, or the finding itself."""
    smaller = finding + ".min"
    run([program, "-minimize_crash=1", f"-max_total_time={MINIMISE_SECONDS}",
         f"-exact_artifact_path={smaller}", finding], subprocess.DEVNULL)
    return smaller if os.path.exists(smaller) else finding


def run_libfuzzer(directory, name, seconds, runs):
    program = os.path.join(directory, "tests", "fuzz", "fuzz_" + name)
    corpus = prepare(directory, "corpus", name)
    findings = prepare(directory, "findings", name)
    known = set(files_in(findings))
    log_path = os.path.join(prepare(directory, "log", ""), name + ".log")
    limit = [f"-runs={runs}"] if runs else [f"-max_total_time={max(1, round(seconds))}"]
    with open(log_path, "w", encoding="utf-8") as log:
        code = run([program, *limit, *options_for(name), "-print_final_stats=1",
                    f"-artifact_prefix={findings}/", corpus, *seeds_of(name)], log)
    with open(log_path, encoding="utf-8", errors="replace") as log:
        executed = re.findall(r"number_of_executed_units: (\d+)", log.read())
    new = [path for path in files_in(findings) if path not in known]
    found = [f"{program} {minimise(program, path)}" for path in new]
    if code != 0 and not found:
        found = [f"see {log_path}"]
    return int(executed[-1]) if executed else 0, found


def merge(directory, name):
    """Keep of seeds and corpus what reaches something that a smaller input does not."""
    program = os.path.join(directory, "tests", "fuzz", "fuzz_" + name)
    corpus = prepare(directory, "corpus", name)
    first = os.path.join(directory, "seeds")
    os.makedirs(first, exist_ok=True)
    run([os.path.join(directory, "tests", "fuzz", "fuzz_seeds"), first])
    with tempfile.TemporaryDirectory(dir=directory) as kept:
        run([program, "-merge=1", "-set_cover_merge=1", "-use_counters=0", "-use_cmp=0", *options_for(name), kept,
             *seeds_of(name), corpus, os.path.join(first, name)], subprocess.DEVNULL)
        for path in files_in(os.path.join(SEEDS, name)):
            if re.fullmatch(r"[0-9a-f]{40}", os.path.basename(path)):
                os.remove(path)
        smallest_first = sorted(files_in(kept), key=os.path.getsize)
        step = max(1, -(-len(smallest_first) // KEPT_MAX))
        for path in smallest_first[::step]:
            if not os.path.exists(os.path.join(SEEDS, name, os.path.basename(path))):
                shutil.copy(path, os.path.join(SEEDS, name))
    say(f"{name:12} {len(files_in(os.path.join(SEEDS, name)))} inputs")


# ---- AFL++ -----------------------------------------------------------------------------------


def run_afl(directory, name, seconds, runs):
    program = os.path.join(directory, "tests", "fuzz", "fuzz_" + name)
    output = os.path.join(directory, "out", name)
    shutil.rmtree(output, ignore_errors=True)
    os.makedirs(output)
    limit = ["-E", str(runs)] if runs else ["-V", str(max(5, round(seconds)))]
    log_path = os.path.join(prepare(directory, "log", ""), name + ".log")
    with open(log_path, "w", encoding="utf-8") as log:
        run(["afl-fuzz", "-i", os.path.join(SEEDS, name), "-o", output, "-m", "none", "-t", "2000",
             *limit, "--", program], log)
    stats = os.path.join(output, "default", "fuzzer_stats")
    if not os.path.exists(stats):
        return 0, [f"see {log_path}"]
    with open(stats, encoding="utf-8") as file:
        executed = int(re.search(r"execs_done\s*:\s*(\d+)", file.read()).group(1))
    found = [path for kind in ("crashes", "hangs")
             for path in files_in(os.path.join(output, "default", kind)) if "README" not in path]
    return executed, [f"{program} <{path}" for path in found]


# ---- All together ----------------------------------------------------------------------------


def fuzz(arguments, directory, names):
    total = sum(TARGETS[name][0] for name in names)
    engine = run_libfuzzer if arguments.engine == "libfuzzer" else run_afl
    executions = findings = 0

    def fuzz_one(name):
        begun = time.monotonic()
        share = arguments.seconds * arguments.jobs * TARGETS[name][0] / total
        executed, found = engine(directory, name, share, arguments.runs)
        return name, executed, found, time.monotonic() - begun

    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for name, executed, found, seconds in pool.map(fuzz_one, names):
            say(f"{name:12} {executed:12} executions {seconds:8.1f} s {len(found)} findings")
            for command in found:
                say(f"    {command}")
            executions += executed
            findings += len(found)
    return executions, findings


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--target", action="append", choices=sorted(TARGETS))
    parser.add_argument("--engine", choices=["libfuzzer", "afl"], default="libfuzzer")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--merge", action="store_true")
    arguments = parser.parse_args()
    names = sorted(arguments.target or TARGETS, key=lambda name: -TARGETS[name][0])
    directory = build(arguments.engine)
    if arguments.merge:
        for name in names:
            merge(directory, name)
        return 0
    begun = time.monotonic()
    executions, findings = fuzz(arguments, directory, names)
    say(f"targets={len(names)} executions={executions} findings={findings} "
        f"seconds={time.monotonic() - begun:.0f}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
