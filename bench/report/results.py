# SPDX-License-Identifier: MIT
"""Results as they were measured, and questions about them."""
import glob
import json
import os
import re


class Results:
    def __init__(self, directory):
        self.directory = directory

    def lines(self, name):
        """Every object of a file; none when it has not been measured."""
        path = os.path.join(self.directory, name + '.json')
        if not os.path.exists(path):
            return []
        with open(path, encoding='utf-8') as file:
            return [json.loads(line) for line in file if line.strip()]

    def numbered(self, prefix):
        """[(number, name)] of the files PREFIX-NUMBER, by number."""
        found = []
        for path in glob.glob(os.path.join(self.directory, prefix + '-*.json')):
            match = re.fullmatch(re.escape(prefix) + r'-(\d+)\.json', os.path.basename(path))
            if match:
                found.append((int(match.group(1)), f'{prefix}-{match.group(1)}'))
        return sorted(found)

    def bench(self, name):
        return Bench(self.lines(name))

    def bare_writes(self, name='compare'):
        """{per_second, least, most} of the bare disk during that step, or None."""
        facts = [f for f in self.lines(name + '.facts') if f['fact'] == 'bare_writes']
        return facts[0] if facts else None


class Bench:
    """What one run of tinykv-bench wrote."""

    def __init__(self, lines):
        self.by_row = {}
        self.engines = []
        for line in lines:
            row = (line['workload'], line['threads'], line['durability'])
            self.by_row.setdefault(row, {})[line['engine']] = line
            if line['engine'] not in self.engines:
                self.engines.append(line['engine'])

    def row(self, workload, threads=1, durability='none'):
        """{engine: line}, empty when it has not been measured."""
        return self.by_row.get((workload, threads, durability), {})

    def rate(self, engine, workload, threads=1, durability='none'):
        line = self.row(workload, threads, durability).get(engine)
        return line['ops_per_second'] if line else None

    def best_peer(self, workload, threads=1, durability='none'):
        """(engine, rate) of the fastest that is not TinyKv, or None."""
        peers = [(line['ops_per_second'], engine)
                 for engine, line in self.row(workload, threads, durability).items()
                 if not engine.startswith('tinykv')]
        return max(peers)[::-1] if peers else None

    def threads(self, workload, durability):
        return sorted(row[1] for row in self.by_row
                      if row[0] == workload and row[2] == durability)
