# SPDX-License-Identifier: MIT
"""Which bar each workload of the comparison has, and whether it is reached."""
from collections import namedtuple

Row = namedtuple('Row', 'title workload threads durability bar')
Verdict = namedtuple('Verdict', 'bar measured reached')


def times_best(factor, of=None):
    """So many times the best peer in the same row, or in the row `of`."""
    def judge(bench, row):
        best = bench.best_peer(*(of or row[1:4]))
        own = bench.rate('tinykv', *row[1:4])
        if best is None or own is None:
            return None
        bar = f'{factor:g} x the best' + (' get' if of else '')
        return Verdict(bar, f'{own / best[1]:.2f} x {best[0]}', own >= factor * best[1])
    return judge


def either(factor, rate):
    """So many times the best peer, or that rate."""
    def judge(bench, row):
        verdict = times_best(factor)(bench, row)
        if verdict is None:
            return None
        own = bench.rate('tinykv', *row[1:4])
        return Verdict(f'{rate // 1000} k/s or {verdict.bar}', verdict.measured,
                       verdict.reached or own >= rate)
    return judge


def rate_of(rate, text):
    def judge(bench, row):
        own = bench.rate('tinykv', *row[1:4])
        return None if own is None else Verdict(text, f'{own / 1e6:.2f} M/s', own >= rate)
    return judge


def times_own(factor, of):
    def judge(bench, row):
        own, before = bench.rate('tinykv', *row[1:4]), bench.rate('tinykv', *of)
        if own is None or before is None:
            return None
        return Verdict(f'{factor:g} x own {of[1]} thread', f'{own / before:.2f} x own',
                       own >= factor * before)
    return judge


def seconds(limit):
    def judge(bench, row):
        line = bench.row(*row[1:4]).get('tinykv')
        if line is None:
            return None
        return Verdict(f'{limit:g} s', f'{line["seconds"]:.3f} s', line['seconds'] <= limit)
    return judge


FIRST = times_best(1)
GET = ('get', 1, 'none')
ROWS = [
    Row('durable put, 1 thread', 'put', 1, 'always', times_best(1.2)),
    Row('durable put, 4 threads', 'put', 4, 'always', times_best(2)),
    Row('durable put, 16 threads', 'put', 16, 'always', times_best(1.8)),
    Row('durable put, 64 threads', 'put', 64, 'always', either(2.5, 200_000)),
    Row('put, unsynced', 'put', 1, 'none', FIRST),
    Row('batch of 100, durable', 'put_batch_100', 1, 'always', FIRST),
    Row('batch of 1,000, durable', 'put_batch', 1, 'always', rate_of(1.5e6, '1.5 M records/s')),
    Row('batch of 100, unsynced', 'put_batch_100', 1, 'none', FIRST),
    Row('batch of 1,000, unsynced', 'put_batch', 1, 'none', FIRST),
    Row('get, 1 thread', 'get', 1, 'none', times_best(1.5)),
    Row('get, 2 threads', 'get', 2, 'none', times_own(1.8, GET)),
    Row('get, 4 threads', 'get', 4, 'none', FIRST),
    Row('get, missing key', 'get_missing', 1, 'none', times_best(1.5)),
    Row('get, missing key, 2 threads', 'get_missing', 2, 'none', FIRST),
    Row('multi-get of 16', 'multi_get', 1, 'none', times_best(3, of=GET)),
    Row('get while another thread overwrites', 'read_while_writing', 1, 'none', FIRST),
    Row('overwrite, unsynced', 'overwrite', 1, 'none', FIRST),
    Row('delete, unsynced', 'delete', 1, 'none', FIRST),
    Row('YCSB A, 1 thread', 'ycsb_a', 1, 'none', FIRST),
    Row('YCSB A, 2 threads', 'ycsb_a', 2, 'none', FIRST),
    Row('YCSB B, 1 thread', 'ycsb_b', 1, 'none', FIRST),
    Row('YCSB B, 2 threads', 'ycsb_b', 2, 'none', FIRST),
    Row('YCSB C, 1 thread', 'ycsb_c', 1, 'none', FIRST),
    Row('YCSB C, 2 threads', 'ycsb_c', 2, 'none', FIRST),
    Row('YCSB D', 'ycsb_d', 1, 'none', FIRST),
    Row('YCSB F', 'ycsb_f', 1, 'none', FIRST),
]
OPENS = [
    Row('open after a close', 'open_after_close', 1, 'none', seconds(0.25)),
    Row('open after SIGKILL', 'open_after_kill', 1, 'none', seconds(0.25)),
]

# The other parts' bars.
OPEN_SECONDS_PER_KEY = 0.25e-6
INDEX_BYTES_PER_KEY = 105
PUT_P999_US = 1000
LIBRARY_BYTES = 150 * 1024
AMPLIFICATION_TOLERANCE = 1.15
SPACE_TOLERANCE = 1.03  # the mean of disk / live, above the factor that was asked for
# Space factor: write amplification of uniform and of zipfian overwrites.
AMPLIFICATION = {1.25: (2.69, 1.96), 1.386: (2.00, 1.65), 1.53: (1.66, 1.50)}
