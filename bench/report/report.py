#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measure what docs/performance.md says, and write its tables and plots.

    report.py [--part NAME]... [--results DIRECTORY] [--scale tiny|default|long]
              [--engine NAME,...] [--stores DIRECTORY] [--render] [--document FILE] [--list]

Measured is what the results directory does not hold yet: an interrupted run goes on where it
was, and to measure again is to delete a file. --part measures that part alone; --render measures
nothing. What has never been measured leaves its place in the document as it is.
"""
import argparse
import os
import sys

import gnuplot
import markdown
import measure
import plan
import plots
import tables
from results import Results

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def parse():
    parser = argparse.ArgumentParser(description='Measure, and write docs/performance.md.')
    parser.add_argument('--part', action='append', help='measure this part alone')
    parser.add_argument('--results', help='directory of what was measured')
    parser.add_argument('--scale', choices=plan.SCALES, default='default')
    parser.add_argument('--engine', help='engines, separated by commas')
    parser.add_argument('--build', default=os.path.join(ROOT, 'build-release'))
    parser.add_argument('--stores', default='/var/tmp/tinykv-report',
                        help='where stores are made, in a directory of their own for each step')
    parser.add_argument('--document', default=os.path.join(ROOT, 'docs', 'performance.md'))
    parser.add_argument('--render', action='store_true', help='measure nothing')
    parser.add_argument('--list', action='store_true', help='print the plan')
    arguments = parser.parse_args()
    if arguments.results is None:
        arguments.results = os.path.join(arguments.build, 'bench-results')
    return arguments


def chosen_parts(arguments):
    engines = arguments.engine.split(',') if arguments.engine else plan.ENGINES
    parts = plan.parts(arguments.scale, engines)
    unknown = set(arguments.part or ()) - set(parts)
    if unknown:
        sys.exit(f'no such part: {", ".join(sorted(unknown))}; there are {", ".join(parts)}')
    return {name: parts[name] for name in arguments.part or parts}


def print_plan(parts):
    for part, steps in parts.items():
        for step in steps:
            print(f'{part:8} {step.name:16} {" ".join([step.program or "-", *step.arguments])}')


def render_tables(results, document_path):
    with open(document_path, encoding='utf-8') as file:
        document = file.read()
    for name, function in tables.ALL.items():
        text = function(results)
        if text is not None:
            document = markdown.replace(document, name, text)
    with open(document_path, 'w', encoding='utf-8') as file:
        file.write(document)


def render_plots(results, directory):
    os.makedirs(directory, exist_ok=True)
    for name, function in plots.ALL.items():
        drawn = function(results)
        if drawn is not None:
            gnuplot.draw(os.path.join(directory, name + '.svg'), *drawn)


def main():
    arguments = parse()
    parts = chosen_parts(arguments)
    if arguments.list:
        print_plan(parts)
        return
    failed = 0
    if not arguments.render:
        failed = measure.take_all(parts, arguments.build, arguments.results, arguments.stores)
    results = Results(arguments.results)
    render_tables(results, arguments.document)
    render_plots(results, os.path.splitext(arguments.document)[0])
    print(f'wrote {arguments.document}')
    sys.exit(failed > 0)


main()
