#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The report of the benchmark says what was measured: its figures, its verdicts and its places in
the document, from results made up here. Each function is a promise; the last line counts them."""
import json
import os
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join('bench', 'report'))
import amplification  # noqa: E402
import bars  # noqa: E402
import gnuplot  # noqa: E402
import markdown  # noqa: E402
import plan  # noqa: E402
import plots  # noqa: E402
import tables  # noqa: E402
from results import Bench, Results  # noqa: E402


def bench_line(engine, rate, workload='put', threads=1, durability='always', **more):
    return {'engine': engine, 'workload': workload, 'threads': threads, 'keys': 1_000_000,
            'value_size': 100, 'durability': durability, 'ops_per_second': rate, 'p50_us': 1,
            'p99_us': 2, 'p999_us': 3, 'max_us': 4, 'disk_bytes': 232_000_000,
            'device_bytes': 464_000_000, 'rss_bytes': 9e6, 'operations': 2_000_000,
            'ops_least': rate / 2, 'ops_most': rate * 2, 'memory_limit': 512_000_000, **more}


def compare_lines(own):
    lines = []
    for row in bars.ROWS + bars.OPENS:
        for engine, rate in (('tinykv', own), ('kyoto', 1_000_000)):
            lines.append(bench_line(engine, rate, *row[1:4],
                                    **({'seconds': 0.2} if row in bars.OPENS else {})))
    return lines


def growth_line(keys):
    return {'keys': keys, 'fill_ns': 500, 'put_ns': 400, 'get_ns': 300, 'rss_bytes': keys * 120,
            'index_bytes_per_key': 99, 'records_replayed': keys // 50,
            **{f'{way}_{what}': 0.1 for way in ('close', 'kill')
               for what in ('seconds', 'least', 'most')}}


def latency_lines(way):
    line = {'way': way, 'puts': 9, 'p50_us': 50, 'p99_us': 90, 'p999_us': 1500, 'max_us': 2000,
            'compacted_bytes': 1_000_000}
    return [{**line, 'at_ms': 0}, {**line, 'at_ms': 100},
            {**line, 'threads': 16, 'puts_per_second': 90, 'seconds': 0.2}]


def write(directory, name, lines):
    with open(os.path.join(directory, name + '.json'), 'w', encoding='utf-8') as file:
        file.writelines(json.dumps(line) + '\n' for line in lines)


def write_all(directory):
    facts = [{'fact': 'bare_writes', 'per_second': 2e7, 'least': 1, 'most': 2},
             {'fact': 'engine', 'engine': 'kyoto', 'settings': 'some', 'caveat': 'loses'}]
    write(directory, 'machine', [{'fact': 'kernel', 'value': 'a kernel'}])
    write(directory, 'size', [{'section': s, 'bytes': 100_000}
                              for s in ('code', 'constants', 'data', 'unwinding tables')])
    write(directory, 'compare', compare_lines(10_000_000))
    write(directory, 'compare.facts', facts)
    write(directory, 'threads', [bench_line('tinykv', 1000 * n, threads=n) for n in (1, 2)] +
          [bench_line('tinykv', 1000 * n, 'get', n, 'none') for n in (1, 2)])
    write(directory, 'polling', [bench_line('tinykv', 9), bench_line('tinykv_defaults', 8)])
    write(directory, 'sizes-16', [bench_line('tinykv', 7, 'get', 1, 'none', value_size=16)])
    write(directory, 'keys-10000', [bench_line('tinykv', 8, 'get', 1, 'none', keys=10_000)])
    write(directory, 'memory', [bench_line('tinykv', 9, 'get', 1, 'none')])
    write(directory, 'latency', [line for way in ('closed', 'open', 'idle')
                                 for line in latency_lines(way)])
    write(directory, 'space', [{'distribution': d, 'space_factor': 1.386,
                                'space_amplification': 1.38, 'write_amplification': 2.1}
                               for d in ('uniform', 'zipf')])
    for keys in (100_000, 10_000_000):
        write(directory, f'open-{keys}', [growth_line(keys)])
    write(directory, 'steps', [{'step': 'open-1', 'part': 'open', 'seconds': 1, 'at': 'now',
                                'command': 'bench_opening'}])


def promise_the_analytic_curve_has_its_known_points():
    for space, (uniform, _) in bars.AMPLIFICATION.items():
        assert abs(amplification.write_of(space) - uniform) < 0.01, space


def promise_a_row_is_reached_exactly_from_its_bar_on():
    row = bars.ROWS[0]
    for own, reached in ((1199, False), (1200, True)):
        bench = Bench([bench_line('tinykv', own), bench_line('lmdb', 1000),
                       bench_line('tinykv_defaults', 2000), bench_line('kyoto', 900)])
        verdict = row.bar(bench, row)
        assert (verdict.reached, verdict.measured) == (reached, '1.20 x lmdb'), verdict


def promise_only_the_text_between_markers_is_replaced():
    begin, end = markdown.markers('x')
    document = f'by hand\n{begin}\nold\n{end}\nby hand too\n'
    replaced = markdown.replace(document, 'x', 'new')
    assert replaced == f'by hand\n{begin}\n\nnew\n\n{end}\nby hand too\n', replaced
    assert markdown.replace(replaced, 'x', 'new') == replaced
    try:
        markdown.replace(document, 'y', 'new')
    except ValueError:
        return
    raise AssertionError('a document without the markers was taken')


def promise_every_table_has_its_place_in_the_document():
    with open('docs/performance.md', encoding='utf-8') as file:
        document = file.read()
    for name in tables.ALL:
        markdown.replace(document, name, '')
    for name in plots.ALL:
        assert f'(performance/{name}.svg)' in document, name
    assert document.count('<!-- begin table') == len(tables.ALL)


def promise_nothing_is_written_of_what_was_not_measured():
    with tempfile.TemporaryDirectory() as directory:
        results = Results(directory)
        for name, function in list(tables.ALL.items()) + list(plots.ALL.items()):
            assert function(results) is None, name


def promise_tables_and_plots_show_all_that_was_measured():
    with tempfile.TemporaryDirectory() as directory:
        write_all(directory)
        results = Results(directory)
        shown = {name: function(results) for name, function in tables.ALL.items()}
        assert all(shown.values()), shown
        assert '| durable put, 1 thread | 10.00 M | 1.00 M |' in shown['compare']
        assert '| put, unsynced | 10.00 M | 1.00 M † |' in shown['compare']
        assert '| kyoto | 2.0 x | 2.00 | 2.00 | 9 MB |' in shown['footprint']
        assert '| durable put on 1 thread, of that | 50 % |' in shown['machine']
        assert 'get, 2 threads' in shown['missed'] and '1.50 ms' in shown['missed']
        assert 'durable put' not in shown['missed'] and 'zipf' in shown['missed']
        assert '| durable put, 1 thread | 9 | 8 |' in shown['polling']
        assert 'a get 1.00 times as much' in shown['growth']
        for name, function in plots.ALL.items():
            script = gnuplot.script('x.svg', *function(results))
            assert script.count('plot $data') == len(function(results)[0]), name


def promise_every_compared_row_is_in_the_plan():
    for row in bars.ROWS + bars.OPENS:
        names = {row.workload, f'{row.workload}:{row.threads}'}
        assert names & set(plan.COMPARED), row


def main():
    failed = 0
    promises = [f for name, f in sorted(globals().items()) if name.startswith('promise_')]
    for promise in promises:
        try:
            promise()
        except AssertionError as error:
            print('failed:', promise.__name__, error)
            failed += 1
    print(f'{len(promises) - failed} passed, {failed} failed')
    sys.exit(failed > 0)


main()
