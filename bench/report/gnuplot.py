# SPDX-License-Identifier: MIT
"""Curves to SVG files, by gnuplot. The colours are those of Okabe and Ito, which people who see
few colours tell apart; each line has a mark of its own as well."""
import subprocess
from collections import namedtuple

# `points` are (x, y); style is lines, linespoints or points.
Line = namedtuple('Line', 'title points look style', defaults=('linespoints',))
Plot = namedtuple('Plot', 'title x_label y_label lines more', defaults=('',))

COLOURS = {
    'vermillion': '#D55E00', 'blue': '#0072B2', 'green': '#009E73', 'purple': '#CC79A7',
    'orange': '#E69F00', 'sky': '#56B4E9', 'black': '#000000', 'grey': '#7F7F7F',
}
MARKS = {'vermillion': 7, 'blue': 5, 'green': 9, 'purple': 11, 'orange': 13, 'sky': 4,
         'black': 8, 'grey': 6}
ENGINE_LOOKS = {
    'tinykv': 'vermillion', 'lmdb': 'blue', 'leveldb': 'green', 'rocksdb': 'purple',
    'wiredtiger': 'orange', 'tkrzw': 'sky', 'kyoto': 'black', 'berkeleydb': 'grey',
}

COMMON = '''
set border 3 lc rgb "#606060"
set tics nomirror textcolor rgb "#303030"
set grid lc rgb "#DDDDDD" lw 1
set key outside right top Left reverse samplen 2 spacing 1.3
set style fill solid 0.2
'''


def quoted(text):
    return '"' + text.replace('\\', '\\\\').replace('"', '\\"') + '"'


def line_command(line, number):
    width = 3 if line.look == 'vermillion' else 1.8
    look = f'lc rgb "{COLOURS[line.look]}"'
    marks = f' pt {MARKS[line.look]} ps 0.8'
    if line.style == 'lines':
        with_style = f'lines lw {width} {look}'
    elif line.style == 'dashed':
        with_style = f'lines lw 1.5 dt 2 {look}'
    elif line.style == 'points':
        with_style = f'points lw 1.5 {look} pt {MARKS[line.look]} ps 1.2'
    else:
        with_style = f'linespoints lw {width} {look}{marks}'
    return f'$data{number} using 1:2 with {with_style} title {quoted(line.title)}'


def data_block(line, number):
    rows = '\n'.join(f'{x:.8g} {y:.8g}' for x, y in line.points)
    return f'$data{number} << END\n{rows}\nEND\n'


def plot_commands(plot, first):
    lines = list(enumerate(plot.lines, first))
    text = ''.join(data_block(line, number) for number, line in lines)
    text += f'set title {quoted(plot.title)}\nset xlabel {quoted(plot.x_label)}\n'
    text += f'set ylabel {quoted(plot.y_label)}\n{plot.more}\n'
    return text + 'plot ' + ', \\\n'.join(line_command(l, n) for n, l in lines) + '\n'


def script(path, plots, height):
    text = (f'set terminal svg size 860,{height} dynamic enhanced background "#FFFFFF" '
            f'font "DejaVu Sans,Helvetica,Arial,sans-serif,13"\nset output {quoted(path)}\n')
    text += COMMON
    if len(plots) > 1:
        text += f'set multiplot layout {len(plots)},1\n'
    number = 0
    for plot in plots:
        text += plot_commands(plot, number)
        number += len(plot.lines)
    return text + ('unset multiplot\n' if len(plots) > 1 else '') + 'unset output\n'


def draw(path, plots, height=420):
    """One plot above the other in one file."""
    subprocess.run(['gnuplot'], input=script(path, plots, height), text=True, check=True)
