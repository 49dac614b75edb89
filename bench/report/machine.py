# SPDX-License-Identifier: MIT
"""What the measurements were made on, and with what."""
import os
import platform
import re
import subprocess


def first_match(path, pattern):
    try:
        with open(path, encoding='utf-8') as file:
            found = re.search(pattern, file.read(), re.M)
    except OSError:
        return None
    return found.group(1).strip() if found else None


def output_of(*command):
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return run.stdout.strip()


def first_line(text):
    return text.splitlines()[0] if text else None


def file_system(path):
    """Type and options of the mount that holds `path`."""
    path = os.path.realpath(path)
    best = ('', None)
    with open('/proc/mounts', encoding='utf-8') as mounts:
        for line in mounts:
            _, point, kind, options = line.split()[:4]
            inside = path == point or path.startswith(point.rstrip('/') + '/')
            if inside and len(point) >= len(best[0]):
                best = (point, f'{kind} ({options})')
    return best[1]


def package_versions():
    names = ('liblmdb-dev', 'libleveldb-dev', 'librocksdb-dev', 'libwiredtiger-dev',
             'libtkrzw-dev', 'libkyotocabinet-dev', 'libdeflate-dev', 'libisal-dev')
    text = output_of('dpkg-query', '-W', '-f', '${Package} ${Version}, ', *names)
    return text.rstrip(', ') if text else None


def memory():
    kib = first_match('/proc/meminfo', r'^MemTotal:\s*(\d+)')
    return f'{int(kib) / 1048576:.1f} GiB' if kib else None


def huge_pages():
    return first_match('/sys/kernel/mm/transparent_hugepage/enabled', r'\[(\w+)\]')


def facts(build, stores):
    del build
    known = {
        'processor': first_match('/proc/cpuinfo', r'^model name\s*:\s*(.*)$') or
        platform.processor(),
        'processors on line': os.cpu_count(),
        'memory': memory(),
        'kernel': f'{platform.system()} {platform.release()}',
        'file system of the stores': file_system(stores),
        'transparent huge pages': huge_pages(),
        'compiler': first_line(output_of(os.environ.get('CC', 'cc'), '--version')),
        'packages': package_versions(),
        'commit': output_of('git', 'rev-parse', '--short', 'HEAD'),
    }
    return [{'fact': fact, 'value': value} for fact, value in known.items() if value]


SECTIONS = {'code': r'^\.text', 'constants': r'^\.rodata', 'data': r'^\.(data|bss|tdata|tbss)',
            'unwinding tables': r'^\.eh_frame'}


def library_sections(build, stores):
    """Bytes of each kind of section that stripping leaves, over all objects of the library."""
    del stores
    archive = os.path.join(build, 'libtinykv.a')
    listing = subprocess.run(['size', '-A', '-d', archive], capture_output=True, text=True,
                             check=True).stdout
    sums = dict.fromkeys(SECTIONS, 0)
    for name, size in re.findall(r'^(\.\S+)\s+(\d+)\s', listing, re.M):
        for kind, pattern in SECTIONS.items():
            if re.match(pattern, name):
                sums[kind] += int(size)
    return [{'section': kind, 'bytes': size} for kind, size in sums.items()]
