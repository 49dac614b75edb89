# SPDX-License-Identifier: MIT
"""Take the steps of a plan whose results are not there yet. A step that fails leaves nothing."""
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

import machine

OWN = {'machine': machine.facts, 'size': machine.library_sections}


def result_path(results, name):
    return os.path.join(results, name + '.json')


def finish(results, name, kind=''):
    path = os.path.join(results, f'{name}{kind}.json')
    if os.path.exists(path + '.part'):
        os.replace(path + '.part', path)


def run_program(step, build, results, stores):
    json_path = result_path(results, step.name) + '.part'
    facts_path = os.path.join(results, step.name + '.facts.json.part')
    places = {'{json}': json_path, '{facts}': facts_path, '{stores}': stores}
    arguments = [places.get(a, a) for a in step.arguments]
    program = os.path.join(build, 'bench', step.program)
    prints = '{json}' not in step.arguments
    with open(json_path if prints else os.devnull, 'w', encoding='utf-8') as output:
        subprocess.run([program, *arguments], stdout=output, check=True)


def run_own(step, build, results, stores):
    lines = OWN[step.name](build, stores)
    with open(result_path(results, step.name) + '.part', 'w', encoding='utf-8') as file:
        for line in lines:
            file.write(json.dumps(line) + '\n')


def command(step):
    return ' '.join([step.program or 'report.py', *step.arguments])


def record(results, part, step, seconds):
    """When and how it was measured; {stores} stays as it is, for it is of no importance."""
    line = {'step': step.name, 'part': part, 'seconds': round(seconds, 1),
            'at': datetime.datetime.now(datetime.timezone.utc).strftime('%Y-%m-%d %H:%M UTC'),
            'command': command(step)}
    with open(os.path.join(results, 'steps.json'), 'a', encoding='utf-8') as file:
        file.write(json.dumps(line) + '\n')


def is_there(results, step):
    """Results that were taken with other arguments are not those of the step."""
    taken = None
    steps = os.path.join(results, 'steps.json')
    if os.path.exists(steps):
        with open(steps, encoding='utf-8') as file:
            lines = [json.loads(line) for line in file]
        taken = next((line['command'] for line in reversed(lines) if line['step'] == step.name), None)
    return os.path.exists(result_path(results, step.name)) and taken in (None, command(step))


def forget(results, step):
    for kind in ('', '.facts'):
        path = os.path.join(results, f'{step.name}{kind}.json')
        if os.path.exists(path):
            os.remove(path)


def take(part, step, build, results, stores):
    """True when the step's results are there afterwards."""
    if is_there(results, step):
        print(f'{part}: {step.name}: is there')
        return True
    forget(results, step)
    print(f'{part}: {step.name}: ', end='', flush=True)
    begun = time.monotonic()
    os.makedirs(stores, exist_ok=True)
    own = tempfile.mkdtemp(prefix='report-', dir=stores)
    try:
        (run_program if step.program else run_own)(step, build, results, own)
    except (subprocess.CalledProcessError, OSError) as error:
        print(f'failed: {error}', file=sys.stderr)
        return False
    finally:
        shutil.rmtree(own, ignore_errors=True)
    finish(results, step.name, '.facts')
    finish(results, step.name)
    seconds = time.monotonic() - begun
    record(results, part, step, seconds)
    print(f'{seconds:.0f} s')
    return True


def take_all(chosen, build, results, stores):
    """`chosen` is {part: [step, ...]}. Returns how many steps failed."""
    os.makedirs(results, exist_ok=True)
    failed = 0
    for part, steps in chosen.items():
        for step in steps:
            failed += not take(part, step, build, results, stores)
    return failed
