# SPDX-License-Identifier: MIT
"""A plot for each part. Every function takes Results and returns (plots, height), or None when
nothing of it has been measured."""
import amplification
import bars
from gnuplot import ENGINE_LOOKS, Line, Plot

LOG_Y = 'set logscale y\n'


def key_axis(lines):
    return ('set logscale x\nset format x "%.0s %c"\n'
            f'set xrange [{lines[0]["keys"] * 0.7:g}:{lines[-1]["keys"] * 1.4:g}]\n')


def by_threads(results, workload, durability, title, y_axis):
    bench = results.bench('threads')
    counts = bench.threads(workload, durability)
    lines = []
    for engine in bench.engines:
        points = [(n, bench.rate(engine, workload, n, durability)) for n in counts]
        lines.append(Line(engine, [p for p in points if p[1]], ENGINE_LOOKS[engine]))
    if not counts:
        return None
    ticks = ', '.join(str(n) for n in counts)
    more = (f'set logscale x 2\nset xtics ({ticks})\n'
            f'set xrange [{counts[0] * 0.95:g}:{counts[-1] * 1.05:g}]\n'
            f'{y_axis}set format y "%.0s %c"\n')
    return [Plot(title, 'threads', 'operations a second', lines, more)], 420


def threads_put(results):
    return by_threads(results, 'put', 'always', 'Durable puts by threads', LOG_Y)


def threads_get(results):
    return by_threads(results, 'get', 'none', 'Gets by threads', 'set yrange [0:]\n')


# ---- Latency over time ------------------------------------------------------------------------

QUANTILES = [('max', 'max_us', 'grey'), ('p99.9', 'p999_us', 'vermillion'),
             ('p99', 'p99_us', 'blue'), ('p50', 'p50_us', 'green')]
PANELS = [('closed', 'As fast as 16 threads go, while the compactor runs without a pause'),
          ('open', 'At half of that rate (open loop), while the compactor runs without a pause'),
          ('idle', 'At the same rate, without compaction')]


def latency(results):
    windows = [line for line in results.lines('latency') if 'at_ms' in line and line['puts']]
    plots = []
    slowest = max((line['max_us'] for line in windows), default=0)
    for way, title in PANELS:
        own = [line for line in windows if line['way'] == way]
        lines = [Line(name, [(line['at_ms'] / 1000, line[field]) for line in own], look, 'lines')
                 for name, field, look in QUANTILES]
        if not own:
            return None
        end = own[-1]['at_ms'] / 1000
        lines.append(Line('bar of p99.9', [(0, bars.PUT_P999_US), (end, bars.PUT_P999_US)],
                          'black', 'dashed'))
        more = f'set logscale y\nset yrange [10:{slowest * 1.5:.6g}]\nset xrange [0:{end:g}]\n'
        plots.append(Plot(title, 'seconds', 'microseconds a put', lines, more))
    return plots, 900


# ---- Space --------------------------------------------------------------------------------------

def space(results):
    measured = {'uniform': [], 'zipf': []}
    for line in results.lines('space'):
        measured[line['distribution']].append((line['space_amplification'],
                                               line['write_amplification']))
    if not measured['uniform']:
        return None
    factors = sorted(bars.AMPLIFICATION)
    lines = [
        Line('uniform, analytic', amplification.curve(), 'grey', 'lines'),
        Line('uniform, measured', measured['uniform'], 'vermillion', 'points'),
        Line('zipf 0.99, simulated', [(f, bars.AMPLIFICATION[f][1]) for f in factors],
             'sky', 'dashed'),
        Line('zipf 0.99, measured', measured['zipf'], 'sky', 'points'),
    ]
    more = 'set xrange [1.1:1.8]\nset yrange [1:]\n'
    return [Plot('Data bytes written for each byte of the user', 'disk bytes / live bytes',
                 'write amplification', lines, more)], 420


# ---- Growth --------------------------------------------------------------------------------------

def growth_lines(results):
    return [line for _, name in results.numbered('open') for line in results.lines(name)]


def against_keys(lines, field, factor=1.0):
    return [(line['keys'], line[field] * factor) for line in lines]


def opening(results):
    lines = growth_lines(results)
    if not lines:
        return None
    bar = [(line['keys'], max(0.25, line['keys'] * bars.OPEN_SECONDS_PER_KEY)) for line in lines]
    curves = [Line('after a close', against_keys(lines, 'close_seconds'), 'vermillion'),
              Line('after SIGKILL', against_keys(lines, 'kill_seconds'), 'blue'),
              Line('bar', bar, 'black', 'dashed')]
    return [Plot('Time to open a store and read from it', 'keys', 'seconds', curves,
                 key_axis(lines) + LOG_Y + 'set format y "%g"\n')], 420


def memory(results):
    lines = growth_lines(results)
    if not lines:
        return None
    ends = [lines[0]['keys'], lines[-1]['keys']]
    curves = [Line('index, counted', against_keys(lines, 'index_bytes_per_key'), 'vermillion'),
              Line('RSS after opening', [(line['keys'], line['rss_bytes'] / line['keys'])
                                         for line in lines], 'blue'),
              Line('bar of the index', [(k, bars.INDEX_BYTES_PER_KEY) for k in ends],
                   'black', 'dashed')]
    return [Plot('Memory of a store with 16-byte keys', 'keys', 'bytes a key', curves,
                 key_axis(lines) + LOG_Y + 'set format y "%g"\n')], 420


def cost(results):
    lines = growth_lines(results)
    if not lines:
        return None
    curves = [Line('first put', against_keys(lines, 'fill_ns'), 'vermillion'),
              Line('overwrite', against_keys(lines, 'put_ns'), 'blue'),
              Line('get', against_keys(lines, 'get_ns'), 'green')]
    return [Plot('Cost of an operation, unsynced, one thread', 'keys', 'nanoseconds', curves,
                 key_axis(lines) + 'set yrange [0:]\n')], 420


ALL = {'threads-put': threads_put, 'threads-get': threads_get, 'latency': latency,
       'space': space, 'opening': opening, 'memory': memory, 'cost': cost}
