# SPDX-License-Identifier: MIT
"""What is measured: parts, each a list of steps, each of which writes one file of results."""
from collections import namedtuple

# `arguments` of `program`; {json}, {facts} and {stores} stand for paths. What a step without
# {json} prints is its result. A program of None is measured by report.py itself.
Step = namedtuple('Step', 'name program arguments')

COMPARED = (
    'put:1', 'put:4', 'put:16', 'put:64', 'put_batch', 'put_batch_100', 'get', 'get_missing',
    'multi_get', 'read_while_writing', 'overwrite', 'delete', 'ycsb_a', 'ycsb_b', 'ycsb_c',
    'ycsb_d', 'ycsb_f', 'open_after_close', 'open_after_kill',
)
SIZED = ('put:16:always', 'put:1:none', 'get:1')
GROWN = ('put:1:none', 'get:1')
THREADED = tuple(f'put:{n}:always' for n in (1, 2, 4, 8, 16, 32, 64)) + ('get',)
# Engines that are packaged and still chosen; berkeleydb can be named with --engine.
ENGINES = ('tinykv', 'lmdb', 'leveldb', 'rocksdb', 'wiredtiger', 'tkrzw', 'kyoto')
LONG_RUNNERS = ('tinykv', 'tkrzw', 'kyoto')
# With and without idle_poll_us, and the best of the others at few and at many threads.
POLLED = tuple(f'put:{n}:always' for n in (1, 2, 4, 8, 16, 64))
POLLING = ('tinykv', 'leveldb', 'wiredtiger')
# Those that read and write through a mapping of all data come to a standstill.
LARGER_THAN_MEMORY = ('tinykv', 'leveldb', 'rocksdb')

Scale = namedtuple('Scale', 'keys seconds runs few_runs value_bytes key_counts long_keys '
                            'memory_keys memory_limit pause_seconds space')

SCALES = {
    'tiny': Scale(keys=5000, seconds=0.03, runs=3, few_runs=1, value_bytes=2_000_000,
                  key_counts=(1000, 10_000), long_keys=20_000, memory_keys=600_000,
                  memory_limit=400_000_000, pause_seconds=1, space=('6000', '1000', '2')),
    'default': Scale(keys=1_000_000, seconds=0.3, runs=5, few_runs=3, value_bytes=64_000_000,
                     key_counts=(1000, 10_000, 100_000, 1_000_000), long_keys=10_000_000,
                     memory_keys=1_500_000, memory_limit=512_000_000, pause_seconds=10,
                     space=('60000', '1000', '5')),
    'long': Scale(keys=1_000_000, seconds=1, runs=5, few_runs=5, value_bytes=256_000_000,
                  key_counts=(1000, 10_000, 100_000, 1_000_000), long_keys=10_000_000,
                  memory_keys=4_000_000, memory_limit=1_000_000_000, pause_seconds=30,
                  space=('300000', '1000', '5')),
}
VALUE_SIZES = (16, 100, 1000, 16_000, 1_000_000)


def peers(name, workloads, engines, keys, runs, seconds, **more):
    arguments = ['--json', '{json}', '--facts', '{facts}', '--dir', '{stores}',
                 '--only', ','.join(workloads), '--engine', ','.join(engines),
                 '--keys', str(keys), '--runs', str(runs), '--seconds', str(seconds)]
    for option, value in more.items():
        arguments += ['--' + option.replace('_', '-'), str(value)]
    return Step(name, 'tinykv-bench', arguments)


def sizes(scale, engines):
    steps = []
    for size in VALUE_SIZES:
        keys = max(100, min(scale.keys // 2, scale.value_bytes // size))
        steps.append(peers(f'sizes-{size}', SIZED, engines, keys, scale.few_runs,
                           scale.seconds, value_size=size))
    for keys in scale.key_counts[1:]:
        if keys == scale.keys:
            continue  # the comparison's
        steps.append(peers(f'keys-{keys}', GROWN, engines, keys, scale.few_runs, scale.seconds))
    long_runners = [e for e in LONG_RUNNERS if e in engines]
    larger = [e for e in LARGER_THAN_MEMORY if e in engines]
    if long_runners:
        steps.append(peers(f'keys-{scale.long_keys}', GROWN, long_runners, scale.long_keys, 1, 1))
    if larger:
        steps.append(peers('memory', GROWN, larger, scale.memory_keys, 1, 2, value_size=1000,
                           memory_limit=scale.memory_limit))
    return steps


def opens(scale):
    steps = [Step(f'open-{keys}', 'bench_opening', ['{stores}', str(keys), str(scale.runs)])
             for keys in scale.key_counts]
    steps.append(Step(f'open-{scale.long_keys}', 'bench_opening',
                      ['{stores}', str(scale.long_keys), str(scale.few_runs)]))
    return steps


def parts(scale_name, engines=ENGINES):
    """{part: [step, ...]}, in the order in which they are measured."""
    scale = SCALES[scale_name]
    polling = ['tinykv_defaults'] + [e for e in POLLING if e in engines]
    return {
        'machine': [Step('machine', None, [])],
        'size': [Step('size', None, [])],
        'compare': [peers('compare', COMPARED, engines, scale.keys, scale.runs, scale.seconds)],
        'threads': [peers('threads', THREADED, engines, scale.keys, scale.few_runs,
                          scale.seconds),
                    peers('polling', POLLED, polling, scale.keys, scale.runs,
                          scale.seconds)],
        'sizes': sizes(scale, engines),
        'latency': [Step('latency', 'bench_pauses',
                         ['{stores}', str(scale.keys), '100', str(scale.pause_seconds), '16'])],
        'space': [Step('space', 'bench_amplification', ['{stores}', *scale.space])],
        'open': opens(scale),
    }
