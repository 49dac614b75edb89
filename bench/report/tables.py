# SPDX-License-Identifier: MIT
"""A table for each part. Every function takes Results and returns Markdown, or None when nothing
of it has been measured."""
import re

import amplification
import bars
import markdown as md

KEY_SIZE = 16


def unsafe_engines(results, step):
    return {f['engine'] for f in results.lines(step + '.facts')
            if f['fact'] == 'engine' and f['caveat']}


def cell(line, unsafe, shown):
    if line is None:
        return '-'
    writes = line['workload'] not in ('get', 'get_missing', 'multi_get', 'ycsb_c')
    opens = line['workload'].startswith('open_')
    mark = line['engine'] in unsafe and line['durability'] == 'none' and writes and not opens
    return shown(line) + (' †' if mark else '')


def shown_rate(line):
    return md.rate(line['ops_per_second'])


def shown_seconds(line):
    return md.seconds(line['seconds'])


def grid(first, rows, engines, unsafe, shown=shown_rate):
    """`rows` are (title, {engine: line})."""
    return md.table([first, *engines],
                    [[title, *(cell(by_engine.get(e), unsafe, shown) for e in engines)]
                     for title, by_engine in rows])


# ---- Comparison --------------------------------------------------------------------------

def compare(results):
    bench = results.bench('compare')
    if not bench.engines:
        return None
    rows = [(row.title, bench.row(*row[1:4])) for row in bars.ROWS]
    return grid('operations/s', [row for row in rows if row[1]], bench.engines,
                unsafe_engines(results, 'compare'))


def opening_peers(results):
    bench = results.bench('compare')
    rows = [(row.title, bench.row(*row[1:4])) for row in bars.OPENS]
    rows = [row for row in rows if row[1]]
    return grid('seconds', rows, bench.engines, set(), shown_seconds) if rows else None


def judged(results):
    """(row, TinyKv's line, verdict) of each row of the comparison that was measured."""
    bench = results.bench('compare')
    for row in bars.ROWS + bars.OPENS:
        line, verdict = bench.row(*row[1:4]).get('tinykv'), row.bar(bench, row)
        if line and verdict:
            yield row, line, verdict


def spread(line):
    if 'seconds' in line:
        return f'{1 / line["ops_most"]:.3f} .. {1 / line["ops_least"]:.3f} s'
    return f'{md.rate(line["ops_least"])} .. {md.rate(line["ops_most"])}'


def own(line):
    return md.seconds(line['seconds']) + ' s' if 'seconds' in line else shown_rate(line)


def reach(results):
    rows = [[row.title, own(line), spread(line), verdict.measured, verdict.bar,
             md.verdict(verdict.reached)] for row, line, verdict in judged(results)]
    return md.table(['workload', 'TinyKv', 'slowest .. fastest', 'ratio', 'bar', 'reached'],
                    rows) if rows else None


def tails(results):
    bench = results.bench('compare')
    rows = []
    for threads in (1, 4, 16, 64):
        for engine, line in bench.row('put', threads, 'always').items():
            rows.append([f'{threads} thread{"s" * (threads > 1)}, {engine}',
                         *(md.micros(line[q]) for q in ('p50_us', 'p99_us', 'p999_us', 'max_us'))])
    return md.table(['durable put, µs', 'p50', 'p99', 'p99.9', 'max'], rows) if rows else None


def footprint(results):
    rows = []
    for engine, line in results.bench('compare').row('overwrite').items():
        user = KEY_SIZE + line['value_size']
        written = line['device_bytes'] / (line['operations'] * user)
        rows.append([engine, f'{line["operations"] / line["keys"]:.1f} x',
                     f'{line["disk_bytes"] / (line["keys"] * user):.2f}', f'{written:.2f}',
                     f'{line["rss_bytes"] / 1e6:,.0f} MB'])
    return md.table(['engine', 'overwritten', 'disk bytes / live byte', 'device bytes / user byte',
                     'RSS'], rows) if rows else None


# ---- Threads, sizes ------------------------------------------------------------------------

def threads(results):
    bench = results.bench('threads')
    rows = [(f'durable put, {n}', bench.row('put', n, 'always'))
            for n in bench.threads('put', 'always')]
    rows += [(f'get, {n}', bench.row('get', n)) for n in bench.threads('get', 'none')]
    return grid('threads', rows, bench.engines, set()) if rows else None


def polling(results):
    bench = results.bench('polling')
    rows = [(f'durable put, {n} thread{"s" * (n > 1)}', bench.row('put', n, 'always'))
            for n in bench.threads('put', 'always')]
    return grid('operations/s', rows, bench.engines, set()) if rows else None


SIZED = [('durable put, 16 threads', 'put', 16, 'always'), ('put, unsynced', 'put', 1, 'none'),
         ('get', 'get', 1, 'none')]


def by_number(results, files, workloads, label):
    rows, engines, unsafe = [], [], set()
    for number, name in files:
        bench = results.bench(name)
        engines += [e for e in bench.engines if e not in engines]
        unsafe |= unsafe_engines(results, name)
        rows += [(title, number, bench.row(*row)) for title, *row in workloads]
    order = [title for title, *_ in workloads]
    rows.sort(key=lambda row: order.index(row[0]))
    return grid('operations/s', [(f'{title}, {label(number)}', by_engine)
                                 for title, number, by_engine in rows if by_engine],
                engines, unsafe) if rows else None


def value_sizes(results):
    return by_number(results, results.numbered('sizes'), SIZED, lambda size: f'{md.count(size)}B'
                     if size >= 1000 else f'{size} B')


def key_counts(results):
    files = results.numbered('keys')
    for line in results.lines('compare')[:1]:
        files = sorted(files + [(line['keys'], 'compare')])
    return by_number(results, files, SIZED[1:], lambda keys: f'{md.count(keys)} keys')


def memory(results):
    bench = results.bench('memory')
    rows = [(title, bench.row(*row)) for title, *row in SIZED[1:]]
    if not bench.engines:
        return None
    line = next(iter(rows[-1][1].values()))
    data = line['keys'] * (KEY_SIZE + line['value_size'])
    return (f'{line["keys"] * 1e-6:g} M records of {md.count(line["value_size"])}B, '
            f'{data / 1e6:,.0f} MB, in {line["memory_limit"] / 1e6:,.0f} MB of memory, '
            'page cache included:\n\n' +
            grid('operations/s', rows, bench.engines, unsafe_engines(results, 'memory')))


# ---- Pauses, space, growth ---------------------------------------------------------------------

WAYS = {'closed': 'as fast as it goes, compacting', 'open': 'at half of that rate, compacting',
        'idle': 'at the same rate, without compaction'}


def latency(results):
    rows = []
    for line in results.lines('latency'):
        if 'threads' not in line:
            continue
        reached = line['p999_us'] <= bars.PUT_P999_US
        rows.append([WAYS[line['way']], md.rate(line['puts_per_second']),
                     *(md.micros(line[q]) for q in ('p50_us', 'p99_us', 'p999_us', 'max_us')),
                     f'{line["compacted_bytes"] / line["seconds"] / 1e6:,.0f} MB/s',
                     md.verdict(reached)])
    return md.table(['durable puts, 16 threads', 'puts/s', 'p50 µs', 'p99 µs', 'p99.9 µs',
                     'max µs', 'compactor', 'p99.9 within 1 ms'], rows) if rows else None


def space(results):
    rows = []
    for line in results.lines('space'):
        uniform = line['distribution'] == 'uniform'
        table = bars.AMPLIFICATION[line['space_factor']][0 if uniform else 1]
        analytic = f'{amplification.write_of(line["space_amplification"]):.2f}' if uniform else '-'
        written = line['write_amplification']
        reached = (line['space_amplification'] <= line['space_factor'] * bars.SPACE_TOLERANCE and
                   written <= table * bars.AMPLIFICATION_TOLERANCE)
        rows.append([f'{line["distribution"]}, {line["space_factor"]:g}',
                     f'{line["space_amplification"]:.3f}', f'{written:.2f}', analytic,
                     f'{table:.2f}', f'{(written / table - 1) * 100:+.0f} %',
                     md.verdict(reached)])
    return md.table(['overwrites, space factor', 'SA measured', 'WA measured',
                     'analytic WA at that SA', 'WA to reach', 'deviation', 'within 15 %'],
                    sorted(rows)) if rows else None


def growth_lines(results):
    return [line for _, name in results.numbered('open') for line in results.lines(name)]


def opening(results):
    rows = []
    for line in growth_lines(results):
        limit = max(0.25, line['keys'] * bars.OPEN_SECONDS_PER_KEY)
        worst = max(line['close_seconds'], line['kill_seconds'])
        rows.append([md.count(line['keys']), md.seconds(line['close_seconds']),
                     f'{line["close_least"]:.3f} .. {line["close_most"]:.3f}',
                     md.seconds(line['kill_seconds']),
                     f'{line["kill_least"]:.3f} .. {line["kill_most"]:.3f}',
                     f'{line["records_replayed"]:,}', f'{limit:g}', md.verdict(worst <= limit)])
    return md.table(['keys', 'after a close, s', 'fastest .. slowest', 'after SIGKILL, s',
                     'fastest .. slowest', 'replayed', 'bar, s', 'reached'], rows) if rows else None


def growth(results):
    rows, lines = [], growth_lines(results)
    for line in lines:
        small = line['keys'] < 1_000_000
        reached = line['index_bytes_per_key'] <= bars.INDEX_BYTES_PER_KEY
        rows.append([md.count(line['keys']), f'{line["fill_ns"]:.0f}', f'{line["put_ns"]:.0f}',
                     f'{line["get_ns"]:.0f}', f'{line["index_bytes_per_key"]:.1f}',
                     'fixed part' if small and not reached else md.verdict(reached),
                     f'{line["rss_bytes"] / 1e6:,.1f} MB'])
    if not rows:
        return None
    text = md.table(['keys', 'first put, ns', 'overwrite, ns', 'get, ns', 'index bytes/key',
                     'within 105', 'RSS of an opened store'], rows)
    return text + '\n\n' + growth_sentence(lines)


def growth_sentence(lines):
    low = [line for line in lines if line['keys'] >= 100_000] or lines
    first, last = low[0], low[-1]
    factors = [f'{word} {last[field] / first[field]:.2f} times' for word, field in
               (('a first put costs', 'fill_ns'), ('an overwrite', 'put_ns'), ('a get', 'get_ns'))]
    return (f'From {md.count(first["keys"])} to {md.count(last["keys"])} keys '
            f'({last["keys"] / first["keys"]:g} times as many) ' + ', '.join(factors) +
            ' as much.')


# ---- The library, the machine, the commands --------------------------------------------------------

def library(results):
    lines = results.lines('size')
    if not lines:
        return None
    sections = {line['section']: line['bytes'] for line in lines}
    counted = sections['code'] + sections['constants'] + sections['data']
    rows = [[kind, f'{size:,}'] for kind, size in sections.items()]
    rows.append(['code, constants and data', f'{counted:,}'])
    rows.append([f'bar: {bars.LIBRARY_BYTES:,} bytes (150 KiB)',
                 md.verdict(counted <= bars.LIBRARY_BYTES)])
    return md.table(['libtinykv.a, stripped', 'bytes'], rows)


def machine(results):
    rows = [[line['fact'], line['value'] if isinstance(line['value'], str) else
             f'{line["value"]:,}'] for line in results.lines('machine')]
    bare = results.bare_writes()
    if bare:
        rows.append(['bare 4 KiB `O_DIRECT\\|O_DSYNC` writes, no store',
                     f'{bare["per_second"]:,.0f} /s ({bare["least"]:,.0f} .. {bare["most"]:,.0f})'])
        put = results.bench('compare').rate('tinykv', 'put', 1, 'always')
        if put and bare['per_second']:
            rows.append(['durable put on 1 thread, of that',
                         f'{put / bare["per_second"] * 100:.0f} %'])
    return md.table(['machine', ''], rows, '---') if rows else None


def settings(results):
    rows = [[f['engine'], f['settings'], f['caveat'] or '-']
            for f in results.lines('compare.facts') if f['fact'] == 'engine']
    return md.table(['engine', 'settings', 'caveat without syncing (†)'], rows,
                    '---') if rows else None


def commands(results):
    """Without the options that only say where files go."""
    items = []
    for line in latest_steps(results):
        command = re.sub(r'--(json|facts|dir) \{\w+\} ', '', line['command'])
        items.append(f'- {line["part"]}, {line["at"]}, {line["seconds"]:.0f} s:\n  `{command}`')
    return '\n'.join(items) or None


def latest_steps(results):
    by_step = {line['step']: line for line in results.lines('steps')}
    return by_step.values()


def missed(results):
    rows = [[row.title, verdict.measured, verdict.bar]
            for row, _, verdict in judged(results) if not verdict.reached]
    for line in results.lines('latency'):
        if 'threads' in line and line['way'] != 'idle' and line['p999_us'] > bars.PUT_P999_US:
            rows.append([f'p99.9 of a put while compacting, {WAYS[line["way"]]}',
                         f'{line["p999_us"] / 1000:.2f} ms', '1 ms'])
    for line in results.lines('space'):
        bar = bars.AMPLIFICATION[line['space_factor']][line['distribution'] != 'uniform']
        if line['write_amplification'] > bar * bars.AMPLIFICATION_TOLERANCE:
            rows.append([f'write amplification, {line["distribution"]}, SA {line["space_factor"]:g}',
                         f'{line["write_amplification"]:.2f}', f'{bar:.2f} + 15 %'])
    for line in growth_lines(results):
        rows += missed_growth(line)
    if not results.lines('compare'):
        return None
    return md.table(['not reached', 'measured', 'bar'], rows) if rows else 'Every bar is reached.'


def missed_growth(line):
    if line['keys'] < 1_000_000:
        return []
    rows, limit = [], line['keys'] * bars.OPEN_SECONDS_PER_KEY
    for way, field in (('a close', 'close_seconds'), ('SIGKILL', 'kill_seconds')):
        if line[field] > limit:
            rows.append([f'open {md.count(line["keys"])} keys after {way}',
                         f'{line[field]:.3f} s', f'{limit:g} s'])
    if line['index_bytes_per_key'] > bars.INDEX_BYTES_PER_KEY:
        rows.append([f'index memory, {md.count(line["keys"])} keys',
                     f'{line["index_bytes_per_key"]:.1f} bytes a key',
                     f'{bars.INDEX_BYTES_PER_KEY} bytes'])
    return rows


ALL = {
    'machine': machine, 'settings': settings, 'compare': compare, 'reach': reach,
    'missed': missed, 'open-peers': opening_peers, 'tails': tails, 'footprint': footprint,
    'threads': threads, 'polling': polling, 'value-sizes': value_sizes,
    'key-counts': key_counts, 'memory': memory, 'latency': latency, 'space': space,
    'opening': opening, 'growth': growth, 'library': library, 'commands': commands,
}
