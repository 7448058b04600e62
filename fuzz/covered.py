#!/usr/bin/env python3
"""Fuzzes with the compiler's coverage as a guide, on the stable toolchain, and says what of the code was reached.

    fuzz/covered.py --seconds 900 [--only NAME]... [--seed N] [--keep] [--log FILE]

One line per target: seconds, executions, regions of the code that the guide saw, lines and regions reached in the code
that the target is for, findings. The lines need `llvm-profdata` and `llvm-cov` of the compiler's own version:
`rustup component add llvm-tools`. --keep writes the shortest inputs of worth to fuzz/corpus. --log appends the lines to a
file, as rows of a table.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEAD = "| target | seconds | executions | behind the parser | regions seen | lines of the code under test | its regions | findings |\n|---|---|---|---|---|---|---|---|"


def build():
    """The runner, in front of instrumented and optimised code with its assertions."""
    crates = [p.parent.name for p in ROOT.glob("crates/*/Cargo.toml")]
    faster = [f"--config=profile.dev.package.heddle-{c}.opt-level=2" for c in crates if c != "heddle"]
    env = dict(os.environ, RUSTC_WORKSPACE_WRAPPER=str(ROOT / "fuzz/instrument"), HEDDLE_FUZZ_INSTRUMENTED="1")
    command = ["cargo", "build", "--locked", "-p", "heddle-fuzz", "--message-format=json", *faster]
    done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True)
    messages = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    return [m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "heddle-fuzz"][-1]


def tools():
    """The folder of the compiler's own LLVM tools, or None."""
    root = subprocess.run(["rustc", "--print", "sysroot"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    found = [p.parent for p in Path(root).glob("lib/rustlib/*/bin/llvm-cov")]
    return found[0] if found else None


def reached(folder, binary, profile, code):
    """Lines and regions reached in `code`: two texts."""
    data = profile.with_suffix(".profdata")
    subprocess.run([folder / "llvm-profdata", "merge", "-sparse", profile, "-o", data], check=True)
    command = [folder / "llvm-cov", "export", "-summary-only", f"-instr-profile={data}", binary]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    files = json.loads(done.stdout)["data"][0]["files"]
    ours = [f["summary"] for f in files if any(under(f["filename"], c) for c in code) and "_test.rs" not in f["filename"]]
    total = lambda kind: (sum(s[kind]["covered"] for s in ours), sum(s[kind]["count"] for s in ours))
    return ["{} of {} ({:.0f} %)".format(*(t := total(kind)), 100 * t[0] / max(t[1], 1)) for kind in ("lines", "regions")]


def under(name, code):
    path = Path(name) if os.path.isabs(name) else ROOT / name
    return path == ROOT / code or ROOT / code in path.parents


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=900)
    parser.add_argument("--only", action="append")
    parser.add_argument("--seed")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--log", type=Path)
    options = parser.parse_args()
    # A copy, so that a later build does not take it away from under a long run.
    own = tempfile.TemporaryDirectory()
    binary = shutil.copy(build(), own.name)
    llvm = tools()
    if llvm is None:
        print("no lines: `rustup component add llvm-tools` brings what counts them", file=sys.stderr)
    listed = subprocess.run([binary, "--list"], env=dict(os.environ, LLVM_PROFILE_FILE="/dev/null"), stdout=subprocess.PIPE, text=True, check=True).stdout
    targets = {line.split()[0]: line.split()[1:] for line in listed.splitlines()}
    rows, clean = [], True
    print(HEAD)
    for name, code in targets.items():
        if options.only and name not in options.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            profile = Path(folder) / "run.profraw"
            command = [binary, "--only", name, "--seconds", str(options.seconds)]
            command += ["--seed", options.seed] if options.seed else []
            command += ["--keep"] if options.keep else []
            done = subprocess.run(command, cwd=ROOT, env=dict(os.environ, LLVM_PROFILE_FILE=str(profile)), stdout=subprocess.PIPE, text=True)
            clean &= done.returncode == 0
            get = lambda pattern: (re.search(pattern, done.stdout) or [None, "-"])[1]
            lines = reached(llvm, binary, profile, code) if llvm and profile.exists() else ["-", "-"]
        findings = "none" if done.returncode == 0 else done.stdout.strip().replace("\n", "; ")
        row = [name, str(options.seconds), get(r"(\d+) executions"), get(r"([\d.]+ %) behind"), get(r"(\d+) regions"), *lines, findings]
        rows.append("| " + " | ".join(row) + " |")
        print(rows[-1], flush=True)
        if options.log:
            with options.log.open("a") as log:
                log.write(rows[-1] + "\n")
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
